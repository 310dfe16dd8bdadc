package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// TestMistakes: each one is an error with its place and what was expected, and
// nothing else is said.
func TestMistakes(t *testing.T) {
	dir := project(t)
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(filepath.Join(dir, "private.pem"), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(s string) string { return "environments:\n  staging:\n    " + s + "\n" }
	trust := func(s string) string { return "trust:\n  " + s + "\n" }
	check := func(s string) string { return "smoke:\n  checks:\n    - {name: a, service: b, " + s + "}\n" }
	for _, c := range []struct{ text, want string }{
		// Form: yamlpos has its own tests; these show that it is asked.
		{"nmae: x\n", `3:1: unknown key "nmae", did you mean "name"?`},
		{env("soke: 1h"), `5:5: unknown key "soke" in environments.staging, did you mean "soak"?`},
		{"scan: {maxAge: 24}\n", `3:16: scan.maxAge: expected a duration such as 90s, 10m or 24h, got the number 24`},
		{"smoke: {memory: {load: {http: {service: a, rate: 20}}}}\n", `3:50: smoke.memory.load.http.rate: expected a rate such as 20/s, 90/m or 1000/h, got "20"`},
		{"smoke: {memory: {load: {http: {service: a, rate: 0/s}}}}\n", `3:50: smoke.memory.load.http.rate: expected a rate such as 20/s, 90/m or 1000/h, got "0/s"`},
		{trust("bilder: []"), `4:3: unknown key "bilder" in trust, did you mean "builder"?`},
		{trust("builder: ops"), `4:12: trust.builder: expected a list such as [{name: alice, key: keys/alice.pub}], got "ops"`},
		{"trust:\n", `3:1: trust: no value`},
		{env("files: [compose.yaml, ]\n    approvals:"), `6:5: environments.staging.approvals: no value`},

		{"compose: {files: []}\n", `3:18: compose.files: expected at least one file`},
		{"compose: {files: [absent.yaml]}\n", `3:19: compose.files[0]: absent.yaml does not exist`},
		{"compose: {files: [compose.yaml, '']}\n", `3:33: compose.files[1]: expected a path, got nothing`},
		{"dimensions: {a: [b, ~]}\n", `3:21: dimensions.a[1]: expected text, got nothing`},
		{"smoke: {checks: [~]}\n", `3:18: smoke.checks[0]: no value`},
		{"compose: {files: [compose.yaml/x]}\n", `3:19: compose.files[0]: not a directory`},
		{"compose: {files: [fifo]}\n", `3:19: compose.files[0]: fifo is no regular file`},
		{"compose: {development: [absent.yml]}\n", `3:25: compose.development[0]: absent.yml does not exist`},
		{"build: {platforms: []}\n", `3:20: build.platforms: expected at least one platform`},
		{"dimensions: {A: [b]}\n", `3:17: dimensions.A: expected lower-case letters and digits, with . _ - between them, got "A"`},
		{"scan: {waive: [{distribution: a, statement: b, expires: 2030-01-01}, {distribution: a, statement: c, expires: 2030-01-01}]}\n", `3:70: scan.waive[1]: "a" is taken already`},
		{"ledger: {lease: 1s}\n", `3:17: ledger.lease: expected a duration from 2s to 1h, got 1s`},
		{"smoke: {memory: {duration: -1s}}\n", `3:28: smoke.memory.duration: expected a duration, got -1s`},
		{"smoke: {memory: {horizon: 0s}}\n", `3:27: smoke.memory.horizon: expected a duration above zero, got 0s`},
		{"smoke: {memory: {load: {http: {service: a, path: x}}}}\n", `3:50: smoke.memory.load.http.path: expected a path that starts with /, got "x"`},
		{"smoke: {memory: {load: {exec: {command: [x]}}}}\n", `3:31: smoke.memory.load.exec.service: expected a value, got nothing`},
		{"ledger: {file: ''}\n", `3:16: ledger.file: expected a directory`},
		{env("files: [absent.yml]"), `5:13: environments.staging.files[0]: absent.yml does not exist`},
		{env("targets: [{name: Prod, host: ssh://a}]"), `5:22: environments.staging.targets[0].name: expected lower-case letters and digits, with . _ - between them, got "Prod"`},
		{env("targets: [{name: a, host: 'ssh://a b'}]"), `5:31: environments.staging.targets[0].host: expected ssh://user@host, unix:///path or tcp://host:port, got "ssh://a b"`},
		{env("approvals: {notBy: [builder, builder]}"), `5:34: environments.staging.approvals.notBy[1]: "builder" is taken already`},
		{env("strategy: {pause: -1m}"), `5:23: environments.staging.strategy.pause: expected a duration above zero, got -1m0s`},
		{env("snapshots: {volumes: [a, a], encryptTo: promote.yaml}"), `5:30: environments.staging.snapshots.volumes[1]: "a" is taken already`},
		{"compose: {files: [keys]}\n", `3:19: compose.files[0]: keys is a directory`},
		{"compose: {files: [../compose.yaml]}\n", `3:19: compose.files[0]: expected a path within the project, got "../compose.yaml"`},
		{"compose: {files: [/etc/passwd]}\n", `3:19: compose.files[0]: expected a path within the project, got "/etc/passwd"`},
		{"compose: {files: [compose.yaml, compose.yaml]}\n", `3:33: compose.files[1]: "compose.yaml" is taken already`},
		{"compose: {development: [compose.yaml]}\n", `3:25: compose.development[0]: compose.yaml is in compose.files too: development files are never promoted`},

		{"build: {platforms: [linux]}\n", `3:21: build.platforms[0]: expected os/arch, such as linux/amd64, got "linux"`},
		{"build: {platforms: [linux/amd64, linux/amd64]}\n", `3:34: build.platforms[1]: "linux/amd64" is taken already`},
		{"build: {tags: ['{{.Version']}\n", `3:16: build.tags[0]: not a tag: version "{{.Version": want letters, digits, '.', '_' and '-', at most 128`},
		{"build: {tags: ['{{.Branch}}']}\n", `3:16: build.tags[0]: unknown field .Branch`},
		{"build: {tags: ['v {{.Version}}']}\n", `3:16: build.tags[0]: not a tag: version "v 1.2.3": want letters, digits, '.', '_' and '-', at most 128`},
		{"build: {cache: [registri]}\n", `3:17: build.cache[0]: unknown value "registri", did you mean "registry"?`},
		{"build: {cache: ['registry=ghcr.io/a:cache']}\n", `3:17: build.cache[0]: expected a repository without a tag, got "ghcr.io/a:cache"`},

		{"dimensions: {code: [src/**]}\n", `3:20: dimensions.code: code is everything that no dimension names`},
		{"dimensions: {a: []}\n", `3:17: dimensions.a: expected at least one pattern`},
		{"dimensions: {a: ['[x']}\n", `3:18: dimensions.a[0]: pattern "[x": syntax error in pattern`},
		{"dimensions: {a: [../x]}\n", `3:18: dimensions.a[0]: expected a path within the project, got "../x"`},
		{"dimensions: {a: ['compose:LLM-MODEL']}\n", `3:18: dimensions.a[0]: expected an environment key behind compose:, got "LLM-MODEL"`},

		{"scan: {failOn: critcal}\n", `3:16: scan.failOn: unknown value "critcal", did you mean "critical"?`},
		{"scan: {maxAge: 0s}\n", `3:16: scan.maxAge: expected a duration above zero, got 0s`},
		{"scan: {maxAge: -1h}\n", `3:16: scan.maxAge: expected a duration above zero, got -1h0m0s`},
		{"scan: {ignoreFile: .trivyignore}\n", `3:20: scan.ignoreFile: .trivyignore does not exist`},
		{"scan: {vex: [absent.json]}\n", `3:14: scan.vex[0]: absent.json does not exist`},
		{"scan: {database: {repository: https://x.dev/db}}\n", `3:31: scan.database.repository: expected host/path, such as ghcr.io/acme/openclaw, got the URL "https://x.dev/db"`},
		{"scan: {waive: [{distribution: debian 12, statement: why}]}\n", `3:16: scan.waive[0].expires: expected a day, got nothing`},
		{"scan: {waive: [{distribution: debian 12, statement: '', expires: 2030-01-01}]}\n", `3:53: scan.waive[0].statement: expected a value, got nothing`},
		{"scan: {waive: [{statement: why, expires: 2030-01-01}]}\n", `3:16: scan.waive[0].distribution: expected a value, got nothing`},
		{"scan: {waive: [{distribution: debian 12, statement: why, expires: soon}]}\n", `3:67: scan.waive[0].expires: expected a day such as 2027-01-31, got "soon"`},

		{"sign: {key: keys/absent.key}\n", `3:13: sign.key: keys/absent.key does not exist, nor its public half`},
		{"sign: {key: 'env://a-b'}\n", `3:13: sign.key: expected the name of a variable behind env://, got "a-b"`},
		{"sign: {key: awskns://x}\n", `3:13: sign.key: unknown value "awskns", did you mean "awskms"?`},
		{"sign: {key: '-----BEGIN EC PRIVATE KEY----- abc'}\n", `3:13: sign.key: this is a key, not the name of one`},
		{"sign: {key: ''}\n", `3:13: sign.key: expected a value, got nothing`},
		{"sign: {keyless: {}}\n", `3:17: sign.keyless: signing with an identity needs a trust section that names it`},
		{"sign: {key: env://A, keyless: {}}\n", `3:31: sign.keyless: signing with an identity needs a trust section that names it`},
		{"sign: {key: env://A, keyless: {rekorVersion: 3}}\n", `3:46: sign.keyless.rekorVersion: Rekor of version 3 is unknown`},
		{"sign: {key: env://A, keyless: {rekorVersion: 2}}\n", `3:46: sign.keyless.rekorVersion: a log of version 2 gives no time: a timestamp authority is needed too`},
		{"sign: {key: env://A, keyless: {rekorVersion: 2, timestamp: 'https://t.example'}, legacySignatures: true}\n", `3:100: sign.legacySignatures: cosign's older form holds the entry of a log of version 1 only`},
		{"sign: {key: env://A, keyless: {fulcio: 'https://fulcio.example.com'}}\n", `3:31: sign.keyless: sign.trustedRoot is missing: the public one knows nothing of these services`},
		{"sign: {key: env://A, trustedRoot: absent.json}\n", `3:35: sign.trustedRoot: absent.json does not exist`},
		{"sign: {key: env://A, trustedRoot: promote.yaml}\n", `3:35: sign.trustedRoot: promote.yaml: canonical JSON: invalid character 'a' in literal null (expecting 'u')`},
		{"sign: {key: k8s://ns/name}\n", `3:13: sign.key: unknown value "k8s"`},
		{"sign: {keyless: {fulcio: fulcio.example.com}}\n", `3:26: sign.keyless.fulcio: expected a URL, got "fulcio.example.com"`},
		{"sign: {keyless: {fulcio: 'https://me:secret@fulcio.example.com'}}\n", `3:26: sign.keyless.fulcio: the URL holds credentials`},

		{trust("builder: [{key: keys/ops.pub}]"), `4:13: trust.builder[0].name: expected a value, got nothing`},
		{trust("builder: [{name: a}]"), `4:13: trust.builder[0]: expected a key or an identity`},
		{trust("builder: [{name: a, key: keys/absent.pub}]"), `4:28: trust.builder[0].key: keys/absent.pub does not exist`},
		{trust("builder: [{name: a, key: compose.yaml}]"), `4:28: trust.builder[0].key: compose.yaml: expected a PEM public key`},
		{trust("builder: [{name: a, key: private.pem}]"), `4:28: trust.builder[0].key: private.pem: this is a private key; name the public half`},
		{trust("builder: [{name: a, key: keys}]"), `4:28: trust.builder[0].key: keys: is a directory`},
		{trust("builder: [{name: a, key: env://X}]"), `4:28: trust.builder[0].key: expected a file with a PEM public key, got "env://X"`},
		{trust("builder: [{name: a, identity: x}]"), `4:13: trust.builder[0]: an identity counts only with the issuer that vouches for it`},
		{trust("builder: [{name: a, identity: x, issuer: y}]"), `4:44: trust.builder[0].issuer: expected a URL, got "y"`},
		{trust("builder: [{name: a, key: keys/ops.pub, identity: x, issuer: https://y}]"), `4:13: trust.builder[0]: expected a key or an identity, got both`},
		{trust("builder: {threshold: 2, of: [{name: a, key: keys/ops.pub}]}"), `4:24: trust.builder.threshold: 2 distinct parties must sign and 1 are named`},
		{trust("owner: {threshold: 2, of: [{name: a, key: keys/ops.pub}, {name: a, key: keys/scan.pub}]}"), `4:22: trust.owner.threshold: 2 distinct parties must sign and 1 are named`},
		{trust("approver: {threshold: 2, of: [{name: a, key: keys/ops.pub}]}"), `4:25: trust.approver.threshold: approver has no threshold here`},
		{trust("promoter: {threshold: 2, of: [{name: a, key: keys/ops.pub}]}"), `4:25: trust.promoter.threshold: promoter has no threshold: one party of that role acts at a time`},
		{trust("builder: [{name: a, identity: x, identityMatch: y, issuer: https://y}]"), `4:51: trust.builder[0].identityMatch: expected identity or identityMatch, got both`},
		{trust("builder: [{name: a, identityMatch: '.*', issuer: https://y}]"), `4:38: trust.builder[0].identityMatch: the expression ".*" matches anybody`},
		{trust("builder: [{name: a, identityMatch: '(a', issuer: https://y}]"), "4:38: trust.builder[0].identityMatch: \"(a\": error parsing regexp: missing closing ): `(a`"},
		{trust("builder: [{name: a, identityMatch: 'a.b', issuerMatch: 'https://.*'}]"), `4:58: trust.builder[0].issuerMatch: the expression "https://.*" matches anybody`},
		{trust("builder: [{name: a, identity: x, issuer: https://y, issuerMatch: z}]"), `4:68: trust.builder[0].issuerMatch: expected issuer or issuerMatch, got both`},
		{trust("builder: [{name: a, identity: x, issuer: https://y, claims: {}}]"), `4:63: trust.builder[0].claims: it asks for nothing`},
		{trust("builder: [{name: a, key: keys/ops.pub, claims: {ref: x}}]"), `4:13: trust.builder[0]: expected a key or an identity, got both`},
		{trust("builder: [{name: a, key: keys/ops.pub, notBefore: 2027-01-02, notAfter: 2027-01-01}]"), `4:75: trust.builder[0].notAfter: it ends before notBefore`},
		{trust("builder: [{name: a, key: keys/ops.pub, notAfter: soon}]"), `4:52: trust.builder[0].notAfter: expected a day such as 2027-01-31, got "soon"`},
		{trust("revoked: [{key: keys/ops.pub}]"), `4:13: trust.revoked[0].reason: expected a value, got nothing`},
		{trust("revoked: [{reason: lost}]"), `4:13: trust.revoked[0]: expected a key or an identity`},
		{trust("revoked: [{key: 'sha256:00', reason: lost}]"), `4:19: trust.revoked[0].key: digest "sha256:00": want 64 hex digits, got 2`},
		{trust("file: absent.json"), `4:9: trust.file: absent.json does not exist`},
		{trust("file: ''"), `4:9: trust.file: expected a value, got nothing`},
		{trust("file: https://a.dev/trust.json"), `4:9: trust.file: expected a file, got "https://a.dev/trust.json"`},
		{trust("fiel: trust.json"), `4:3: unknown key "fiel" in trust, did you mean "file"?`},
		{trust("owner: {threshold: 0, of: [{name: a, key: keys/ops.pub}]}"), `4:22: trust.owner.threshold: expected at least 1, got 0`},

		{"smoke: {files: [absent.yml]}\n", `3:17: smoke.files[0]: absent.yml does not exist`},
		{"smoke: {timeout: 0s}\n", `3:18: smoke.timeout: expected a duration above zero, got 0s`},
		{check("tcp: 80}\n    - {name: a, service: b, tcp: 80"), `6:14: smoke.checks[1].name: "a" is taken already`},
		{"smoke: {checks: [{name: a b, service: c, tcp: 1}]}\n", `3:25: smoke.checks[0].name: expected letters, digits, - _ and ., got "a b"`},
		{"smoke: {checks: [{name: a, tcp: 1}]}\n", `3:18: smoke.checks[0].service: expected a value, got nothing`},
		{check("survives: restart"), `5:7: smoke.checks[0]: expected one of http, exec, tcp, log, logNot and script, got 0 of them`},
		{check("tcp: 80, log: x"), `5:7: smoke.checks[0]: expected one of http, exec, tcp, log, logNot and script, got 2 of them`},
		{check("tcp: 80, http: "), `5:38: smoke.checks[0].http: no value`},
		{check("tcp: 0"), `5:34: smoke.checks[0].tcp: expected a port from 1 to 65535, got 0`},
		{check("log: '['"), "5:34: smoke.checks[0].log: error parsing regexp: missing closing ]: `[`"},
		{check("logNot: '['"), "5:37: smoke.checks[0].logNot: error parsing regexp: missing closing ]: `[`"},
		{check("http: {within: 0s}"), `5:44: smoke.checks[0].http.within: expected a duration above zero, got 0s`},
		{check("http: {json: {a: [b]}}"), `5:46: smoke.checks[0].http.json.a: expected text, got a list`},
		{check("script: []"), `5:37: smoke.checks[0].script: expected a command`},
		{check("script: [/bin/sh]"), `5:38: smoke.checks[0].script[0]: expected a path within the project, got "/bin/sh"`},
		{check("script: [absent]"), `5:38: smoke.checks[0].script[0]: absent does not exist`},
		{"smoke: {checks: [{name: a, script: [compose.yaml], survives: restart}]}\n", `3:18: smoke.checks[0].service: expected a value, got nothing`},
		{check("tcp: 80, contains: x"), `5:48: smoke.checks[0].contains: only the output of exec and script can contain something`},
		{check("logNot: x, survives: restart"), `5:50: smoke.checks[0].survives: a log that must not hold something is looked at when the run ends, not before and after`},
		{check("tcp: 80, write: {exec: [x]}"), `5:45: smoke.checks[0].write: nothing is done between writing and reading`},
		{check("tcp: 80, survives: restart, write: {}"), `5:64: smoke.checks[0].write: expected one of http, exec and script, got 0 of them`},
		{check("tcp: 80, survives: restart, write: {http: {path: x}}"), `5:78: smoke.checks[0].write.http.path: expected a path that starts with /, got "x"`},
		{check("tcp: 80, survives: restart, write: {script: [absent]}"), `5:74: smoke.checks[0].write.script[0]: absent does not exist`},
		{"smoke: {egress: maybe}\n", `3:17: smoke.egress: unknown value "maybe"`},
		{"smoke: {state: keep}\n", `3:16: smoke.state: unknown value "keep"`},
		{"smoke: {stop: {requests: 4}}\n", `3:15: smoke.stop: expected http, got nothing`},
		{"smoke: {stop: {http: {service: a}, requests: 65}}\n", `3:46: smoke.stop.requests: expected 1 to 64, got 65`},
		{"smoke: {stop: {http: {path: /x}}}\n", `3:22: smoke.stop.http.service: expected a value, got nothing`},
		{"smoke: {stop: {http: {service: a}, resumed: keeps}}\n", `3:45: smoke.stop.resumed: unknown value "keeps"`},
		{"smoke: {memory: {load: {script: {rate: 1/s}}}}\n", `3:33: smoke.memory.load.script.command: expected a command`},
		{"smoke: {memory: {load: {script: {command: [absent]}}}}\n", `3:44: smoke.memory.load.script.command[0]: absent does not exist`},
		{env("files: []") + "smoke: {parity: {accept: [{environment: stagin, field: memory, statement: x}]}}\n", `6:41: smoke.parity.accept[0].environment: unknown value "stagin", did you mean "staging"?`},
		{env("files: []") + "smoke: {parity: {accept: [{environment: staging, field: memory}]}}\n", `6:27: smoke.parity.accept[0].statement: expected a value, got nothing`},
		{check("exec: []"), `5:35: smoke.checks[0].exec: expected a command`},
		{check("exec: [x], survives: reboot"), `5:50: smoke.checks[0].survives: unknown value "reboot"`},
		{check("http: {path: health}"), `5:42: smoke.checks[0].http.path: expected a path that starts with /, got "health"`},
		{check("http: {status: 20}"), `5:44: smoke.checks[0].http.status: expected a status from 100 to 599, got 20`},
		{check("http: {method: get}"), `5:44: smoke.checks[0].http.method: expected a method such as GET or POST, got "get"`},
		{check("http: {port: 70000}"), `5:42: smoke.checks[0].http.port: expected a port from 1 to 65535, got 70000`},
		{check("tcp: 80, timeout: 0s"), `5:47: smoke.checks[0].timeout: expected a duration above zero, got 0s`},
		{"smoke: {memory: {warmup: 60s}}\n", `3:26: smoke.memory.warmup: the warm-up of 1m0s leaves nothing of the duration of 1m0s`},
		{"smoke: {memory: {maxPercentOfLimit: 0}}\n", `3:37: smoke.memory.maxPercentOfLimit: expected 1 to 100, got 0`},
		{"smoke: {memory: {load: {http: {path: /x}}}}\n", `3:31: smoke.memory.load.http.service: expected a value, got nothing`},
		{"smoke: {memory: {load: {http: {service: x}, exec: {service: x, command: [y]}}}}\n", `3:24: smoke.memory.load: expected one of http, exec and script, got 2 of them`},
		{"smoke: {memory: {load: {exec: {service: x}}}}\n", `3:31: smoke.memory.load.exec.command: expected a command`},

		{"environments: {Staging: {}}\n", `3:25: environments.Staging: expected lower-case letters and digits, with . _ - between them, got "Staging"`},
		{"environments: {smoke: {}}\n", `3:23: environments.smoke: smoke is the name of the prod-like run`},
		{env("after: stagin\n  first: {}"), `5:12: environments.staging.after: no environment "stagin", did you mean "staging"?`},
		{env("after: staging\n  first: {}"), `5:12: environments.staging.after: staging comes after itself`},
		{env("soak: 1h\n  production:\n    soak: 1h"), `5:5: environments.staging: production and staging have no after: expected exactly one first environment`},
		{env("files: [compose.dev.yml]") + "compose: {development: [compose.dev.yml]}\n", `5:13: environments.staging.files[0]: compose.dev.yml is for development: it is never promoted`},
		{env("registry: acme/openclaw"), `5:15: environments.staging.registry: "acme/openclaw" names no host`},
		{env("targets: [{host: ssh://a}]"), `5:15: environments.staging.targets[0].name: expected a value, got nothing`},
		{env("targets: [{name: a, host: ssh://a}, {name: a, host: ssh://b}]"), `5:48: environments.staging.targets[1].name: "a" is taken already`},
		{env("targets: [{name: a, host: ssh://a}, {name: b, host: ssh://a}]"), `5:41: environments.staging.targets[1]: two targets are the same engine`},
		{env("targets: [{name: a, host: prod-1}]"), `5:31: environments.staging.targets[0].host: expected ssh://user@host, unix:///path or tcp://host:port, got "prod-1"`},
		{env("targets: [{name: a, host: 'https://a'}]"), `5:31: environments.staging.targets[0].host: expected ssh://user@host, unix:///path or tcp://host:port, got "https://a"`},
		{env("targets: [{name: a, host: 'ssh://me:secret@a'}]"), `5:31: environments.staging.targets[0].host: the address holds a password`},
		{env("targets: [{name: a, host: unix://run/docker.sock}]"), `5:31: environments.staging.targets[0].host: expected an absolute path behind unix://, got "unix://run/docker.sock"`},
		{env("targets: [{name: a, host: 'tcp://a'}]"), `5:31: environments.staging.targets[0].host: "tcp://a" names no port`},
		{env("targets: [{name: a, host: 'ssh://'}]"), `5:31: environments.staging.targets[0].host: "ssh://" names no host`},
		{env("targets: []"), `5:14: environments.staging.targets: expected at least one target`},
		{env("strategy: {parallel: 0}"), `5:26: environments.staging.strategy.parallel: expected at least 1, got 0`},
		{env("keepReleases: 0"), `5:19: environments.staging.keepReleases: expected at least 1, got 0`},
		{env("snapshots: {volumes: [a], keep: 0, encryptTo: promote.yaml}"), `5:37: environments.staging.snapshots.keep: expected at least 1, got 0`},
		{env("soak: 0s"), `5:11: environments.staging.soak: expected a duration above zero, got 0s`},
		{env("approvals: {required: -1}"), `5:27: environments.staging.approvals.required: expected zero or more, got -1`},
		{env("approvals: {notBy: [bilder]}"), `5:25: environments.staging.approvals.notBy[0]: unknown value "bilder", did you mean "builder"?`},
		{env("approvals: {required: 1}"), `5:27: environments.staging.approvals.required: 1 approvers must agree and trust names 0`},
		{env("windows: [{zone: UTC}]"), `5:15: environments.staging.windows[0]: expected one of allow and deny`},
		{env("windows: [{allow: 'Mon-Don 09:00-16:00'}]"), `5:23: environments.staging.windows[0].allow: expected days out of Mon, Tue, Wed, Thu, Fri, Sat, Sun, got "Mon-Don"`},
		{env("windows: [{deny: '9-16'}]"), `5:22: environments.staging.windows[0].deny: expected days and times, got "9-16"`},
		{env("windows: [{allow: 'Mon 16:00-09:00'}]"), `5:23: environments.staging.windows[0].allow: 09:00 is not later than 16:00; a span over midnight says both days: Fri 22:00-Sat 02:00`},
		{env("windows: [{allow: '09:00-25:00'}]"), `5:23: environments.staging.windows[0].allow: expected a time from 00:00 to 24:00, got 25:00`},
		{env("windows: [{allow: '00:00-24:00', zone: Europe/Atlantis}]"), `5:44: environments.staging.windows[0].zone: no time zone "Europe/Atlantis"`},
		{env("strategy: {onFailure: pray}"), `5:27: environments.staging.strategy.onFailure: unknown value "pray"`},
		{env("strategy: {pause: 1m}"), `5:23: environments.staging.strategy.pause: a pause is for canaries, and there are none`},
		{env("strategy: {canary: 1}"), `5:24: environments.staging.strategy.canary: expected fewer canaries than the 1 targets, got 1`},
		{env("strategy: {parallel: -1}"), `5:26: environments.staging.strategy.parallel: expected at least 1, got -1`},
		{env("snapshots: {volumes: [a]}"), `5:16: environments.staging.snapshots.encryptTo: expected a value, got nothing`},
		{env("snapshots: {volumes: [], encryptTo: promote.yaml}"), `5:26: environments.staging.snapshots.volumes: expected at least one volume`},
		{env("snapshots: {volumes: [a], encryptTo: keys/absent.pub}"), `5:42: environments.staging.snapshots.encryptTo: keys/absent.pub does not exist`},

		{"hooks: {pre-deploy: hooks/absent}\n", `3:21: hooks.pre-deploy: hooks/absent does not exist`},
		{"notify: [{webhook: 'https://hooks.example.com/T0/secret'}]\n", `3:20: notify[0].webhook: expected the variable that holds the URL, as env://NAME`},
		{"notify: [{on: [failed]}]\n", `3:10: notify[0].webhook: expected a value, got nothing`},
		{"notify: [{webhook: env://X, on: [fail]}]\n", `3:34: notify[0].on[0]: unknown value "fail", did you mean "failed"?`},
		{"notify: [{webhook: env://X, one: [failed]}]\n", `3:29: unknown key "one" in notify[0], did you mean "on"?`},
		{"notify: [{webhook: env://X, on: []}]\n", `3:33: notify[0].on: expected phases of records, got none`},
		{"notify: [{webhook: env://X, on: [failed, failed]}]\n", `3:42: notify[0].on[1]: "failed" is taken already`},
		{"notify: [{webhook: env://X}, {webhook: env://X}]\n", `3:40: notify[1].webhook: "env://X" is taken already`},
		{"notify: [{webhook: env://X, secret: whsec_c2VjcmV0}]\n", `3:37: notify[0].secret: expected the variable that holds the secret, as env://NAME`},
		{"notify: [{webhook: env://X, format: slak}]\n", `3:37: notify[0].format: unknown value "slak", did you mean "slack"?`},
		{"policies: [absent/]\n", `3:12: policies[0]: absent/ does not exist`},
		{"ledger: {file: x, git: {}}\n", `3:9: ledger: expected file or git, got both`},
		{"ledger: {file: [x]}\n", `3:16: ledger.file: expected a path, or {path: …, shared: true}, got a list`},
		{"smoke: {memory: {load: {http: {service: x, concurrency: 0}}}}\n", `3:57: smoke.memory.load.http.concurrency: expected at least 1, got 0`},
		{"ledger: {git: {remote: --upload-pack=x}}\n", `3:24: ledger.git.remote: expected a remote, got "--upload-pack=x"`},
		{"ledger: {git: {branch: -x}}\n", `3:24: ledger.git.branch: expected a branch such as promote-ledger, got "-x"`},
		{"ledger: {git: {branch: a..b}}\n", `3:24: ledger.git.branch: expected a branch such as promote-ledger, got "a..b"`},
		{"ledger: {git: {branch: a//b}}\n", `3:24: ledger.git.branch: expected a branch such as promote-ledger, got "a//b"`},
		{"ledger: {git: {branch: a/}}\n", `3:24: ledger.git.branch: expected a branch such as promote-ledger, got "a/"`},
		{"ledger: {git: {branch: a.lock}}\n", `3:24: ledger.git.branch: git keeps names that end with .lock for itself`},
		{"ledger: {git: {remote: 'https://ci:t0ken@git.example.com/a.git'}}\n", `3:24: ledger.git.remote: a password or token in the URL`},
		{"ledger: {git: {remote: 'https://t0ken@git.example.com/a.git'}}\n", `3:24: ledger.git.remote: a password or token in the URL`},
		{"ledger: {git: {remotes: origin}}\n", `3:16: unknown key "remotes" in ledger.git, did you mean "remote"?`},
	} {
		if err := os.WriteFile(path, []byte(minimal+c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if err == nil {
			t.Errorf("accepted:\n%s", c.text)
			continue
		}
		if got := strings.TrimPrefix(err.Error(), path+":"); got != c.want || release.KindOf(err) != release.KindConfig {
			t.Errorf("%s\ngot  %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestRegistries(t *testing.T) {
	for registry, ok := range map[string]bool{
		"ghcr.io/acme/openclaw": true, "127.0.0.1:5555/x": true, "localhost:5000": true, "localhost:5000/a/b": true, "localhost/a": true,
		"registry.acme.dev": true, "registry.acme.dev:443": true, "[::1]:5000/a": true, "host:5000/a": true,
		"ghcr.io/acme/openclaw:1.0": false, "ghcr.io/acme/openclaw@sha256:" + strings.Repeat("0", 64): false, "https://ghcr.io/a": false,
		"acme/openclaw": false, "openclaw": false, "redis:7": false, "ghcr.io/Acme": false, "ghcr.io/": false, "ghcr.io//a": false,
		"ghcr.io/a b": false, "-ghcr.io/a": false, "ghcr.io/a/": false, "ghcr.io/" + strings.Repeat("a", 300): false, "user@ghcr.io/a": false,
	} {
		_, err := load(t, "name: a\nregistry: "+fmt.Sprintf("%q", registry)+"\n")
		if ok != (err == nil) {
			t.Errorf("%s: %v", registry, err)
		}
		if err != nil && strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: said twice: %v", registry, err)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"openclaw": true, "open-claw": true, "a.b_c": true, "7": true, "": false, "Open": false, "-a": false, "a-": false, "a/b": false, "a b": false,
		strings.Repeat("a", 63): true, strings.Repeat("a", 64): false,
	} {
		if _, err := load(t, fmt.Sprintf("name: %q\nregistry: ghcr.io/a\n", name)); ok != (err == nil) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestEverythingIsSaidAtOnce, in the order of the file.
func TestEverythingIsSaidAtOnce(t *testing.T) {
	_, err := load(t, `registry: acme
scan:
  failOn: terrible
  maxAge: never
compose: {files: [absent.yaml]}
envronments: {}
environments:
  production: {after: stagin, soak: 2}
  staging:
    targets: [{name: a, host: a}]
    strategy: {onFailure: pray}
`)
	var list release.Errors
	if !errors.As(err, &list) {
		t.Fatal(err)
	}
	want := []string{
		"1:1: name: expected a value",
		`1:11: registry: "acme" names no host`,
		"3:11: scan.failOn: unknown value",
		"4:11: scan.maxAge: expected a duration",
		"5:19: compose.files[0]: absent.yaml does not exist",
		`6:1: unknown key "envronments", did you mean "environments"?`,
		`8:23: environments.production.after: no environment "stagin"`,
		"8:37: environments.production.soak: expected a duration",
		"10:31: environments.staging.targets[0].host: expected ssh://",
		"11:27: environments.staging.strategy.onFailure: unknown value",
	}
	if len(list) != len(want) {
		t.Fatalf("%d errors, want %d:\n%v", len(list), len(want), list)
	}
	for i, f := range list {
		_, text, _ := strings.Cut(f.Error(), FileName+":")
		if !strings.HasPrefix(text, want[i]) {
			t.Errorf("error %d is %q, want %q…", i, text, want[i])
		}
	}
}

// TestCyclesAreFound of any length, each environment of one named.
func TestCyclesAreFound(t *testing.T) {
	_, err := load(t, minimal+"environments:\n  first: {}\n  a: {after: c}\n  b: {after: a}\n  c: {after: b}\n  d: {after: c}\n")
	if err == nil || strings.Count(err.Error(), "comes after itself") != 3 {
		t.Errorf("got %v", err)
	}
	if _, err = load(t, minimal+"environments:\n  a: {after: b}\n  b: {after: a}\n"); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v", err)
	}
	c := sound(t, minimal+"environments:\n  prod-eu: {after: staging}\n  prod-us: {after: staging}\n  staging: {after: test}\n  test: {}\n")
	var names []string
	for _, e := range c.Environments() {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "test staging prod-eu prod-us" {
		t.Errorf("order of promotion: %s", got)
	}
}
