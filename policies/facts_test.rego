# Facts about a release that passes every gate, for tests: they break one thing
# with object.union or json.patch and look at what the gate says.
package promote.testdata

good := {
	"kind": "promote",
	"environment": {
		"name": "production",
		"after": "staging",
		"first": false
	},
	"release": {
		"digest": "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
		"name": "app",
		"version": "1.0.0",
		"revision": "c0ffee",
		"dirty": false
	},
	"trust": "roles",
	"services": [
		{
			"name": "agent",
			"origin": "built",
			"repository": "registry.test/app/agent",
			"digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			"pinned": true,
			"signature": {
				"verified": true,
				"absent": false,
				"signer": "ci",
				"reason": "",
				"evidence": "sha256:1111111111111111111111111111111111111111111111111111111111111111"
			},
			"provenance": {
				"verified": true,
				"absent": false,
				"signer": "ci",
				"reason": "",
				"evidence": "sha256:2222222222222222222222222222222222222222222222222222222222222222",
				"builder": "https://ci.test/builder",
				"revision": "c0ffee",
				"bases": [
					{
						"name": "registry.test/base/python:bookworm",
						"digest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
						"pinned": true
					}
				]
			},
			"scan": {
				"verified": true,
				"absent": false,
				"signer": "scan",
				"reason": "",
				"evidence": "sha256:3333333333333333333333333333333333333333333333333333333333333333",
				"scannedAt": "2026-01-02T01:00:00Z",
				"ageSeconds": 3600,
				"database": {
					"updatedAt": "2026-01-02T00:00:00Z",
					"ageSeconds": 7200,
					"digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
					"covers": [
						"debian 12",
						"pip"
					]
				},
				"distribution": "debian 12.11",
				"result": "passed",
				"summary": {
					"critical": 0,
					"high": 0,
					"medium": 0,
					"low": 0,
					"unknown": 0
				},
				"findings": [],
				"omitted": 0,
				"waived": []
			},
			"sbom": {
				"verified": true,
				"absent": false,
				"signer": "scan",
				"reason": "",
				"evidence": "sha256:4444444444444444444444444444444444444444444444444444444444444444",
				"components": 42
			},
			"config": {
				"known": true,
				"user": "1000",
				"nonRoot": true,
				"healthcheck": true
			},
			"match": {
				"made": true,
				"database": {
					"updatedAt": "2026-01-02T00:00:00Z",
					"ageSeconds": 7200,
					"digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
					"covers": [
						"debian 12",
						"pip"
					]
				},
				"findings": [],
				"omitted": 0
			}
		},
		{
			"name": "redis",
			"origin": "external",
			"repository": "registry.test/app/redis",
			"digest": "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
			"pinned": true,
			"signature": {
				"verified": false,
				"absent": true,
				"signer": "",
				"reason": "there is no signature",
				"evidence": ""
			},
			"provenance": {
				"verified": false,
				"absent": true,
				"signer": "",
				"reason": "there is no provenance",
				"evidence": "",
				"builder": "",
				"revision": "",
				"bases": []
			},
			"scan": {
				"verified": true,
				"absent": false,
				"signer": "scan",
				"reason": "",
				"evidence": "sha256:7777777777777777777777777777777777777777777777777777777777777777",
				"scannedAt": "2026-01-02T01:00:00Z",
				"ageSeconds": 3600,
				"database": {
					"updatedAt": "2026-01-02T00:00:00Z",
					"ageSeconds": 7200,
					"digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
					"covers": [
						"debian 12",
						"pip"
					]
				},
				"distribution": "debian 12.11",
				"result": "passed",
				"summary": {
					"critical": 0,
					"high": 0,
					"medium": 0,
					"low": 0,
					"unknown": 0
				},
				"findings": [],
				"omitted": 0,
				"waived": []
			},
			"sbom": {
				"verified": true,
				"absent": false,
				"signer": "scan",
				"reason": "",
				"evidence": "sha256:8888888888888888888888888888888888888888888888888888888888888888",
				"components": 42
			},
			"config": {
				"known": true,
				"user": "1000",
				"nonRoot": true,
				"healthcheck": true
			},
			"match": {
				"made": true,
				"database": {
					"updatedAt": "2026-01-02T00:00:00Z",
					"ageSeconds": 7200,
					"digest": "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
					"covers": [
						"debian 12",
						"pip"
					]
				},
				"findings": [],
				"omitted": 0
			}
		}
	],
	"smoke": {
		"verified": true,
		"absent": false,
		"signer": "tester",
		"reason": "",
		"evidence": "sha256:9999999999999999999999999999999999999999999999999999999999999999",
		"result": "passed",
		"finishedAt": "2026-01-02T00:30:00Z",
		"ageSeconds": 5400,
		"services": [
			{
				"name": "agent",
				"healthy": true,
				"oomKilled": false,
				"restarts": 0,
				"memory": {
					"limit": 134217728,
					"peak": 50000000,
					"slopePerSecond": 0.5,
					"samples": 60,
					"slopeLow": null,
					"slopeHigh": null,
					"secondsToLimit": null,
					"percentOfLimit": 0,
					"highWater": 0,
					"cache": 0,
					"series": []
				},
				"oomKills": 0,
				"throttled": 0,
				"fds": 0,
				"tasks": 0,
				"log": [],
				"marks": []
			},
			{
				"name": "redis",
				"healthy": true,
				"oomKilled": false,
				"restarts": 0,
				"memory": {
					"limit": 67108864,
					"peak": 10000000,
					"slopePerSecond": 0,
					"samples": 60,
					"slopeLow": null,
					"slopeHigh": null,
					"secondsToLimit": null,
					"percentOfLimit": 0,
					"highWater": 0,
					"cache": 0,
					"series": []
				},
				"oomKills": 0,
				"throttled": 0,
				"fds": 0,
				"tasks": 0,
				"log": [],
				"marks": []
			}
		],
		"failedChecks": [],
		"warnedChecks": []
	},
	"history": {
		"released": true,
		"deployedToAfter": true,
		"ranHere": false,
		"afterOpen": false,
		"soakSeconds": 7200,
		"requiredSoakSeconds": 3600
	},
	"approvals": {
		"required": 2,
		"notBy": [
			"builder",
			"promoter"
		],
		"given": [
			"alice",
			"bob"
		],
		"approvers": [
			"carol"
		],
		"votes": [
			{
				"name": "bob",
				"sequence": 6,
				"record": "sha256:6666666666666666666666666666666666666666666666666666666666666666",
				"until": "2026-01-09T00:00:00Z",
				"counts": true,
				"reason": ""
			},
			{
				"name": "alice",
				"sequence": 5,
				"record": "sha256:5555555555555555555555555555555555555555555555555555555555555555",
				"until": "2026-01-08T00:00:00Z",
				"counts": true,
				"reason": ""
			}
		]
	},
	"freezes": [],
	"window": {
		"open": true,
		"why": "",
		"changesAt": "2026-01-02T16:00:00Z",
		"changes": "Fri 2026-01-02 16:00 UTC"
	},
	"resumed": false,
	"models": [],
	"limits": {
		"maxAgeSeconds": 86400,
		"failOn": "critical"
	},
	"producible": false
}

# broken gives the good facts with one value changed, by its JSON pointer.
broken(path, value) := json.patch(good, [{"op": "replace", "path": path, "value": value}])

# added gives the good facts with one more element in a list.
added(path, value) := json.patch(good, [{"op": "add", "path": sprintf("%s/-", [path]), "value": value}])

# without gives the good facts without the evidence at a JSON pointer.
without(path) := json.patch(good, [
	{"op": "replace", "path": sprintf("%s/verified", [path]), "value": false},
	{"op": "replace", "path": sprintf("%s/absent", [path]), "value": true},
	{"op": "replace", "path": sprintf("%s/reason", [path]), "value": "there is none"},
])

# planned is a plan for the first environment without the evidence at a pointer.
planned(path) := json.patch(without(path), [
	{"op": "replace", "path": "/producible", "value": true},
	{"op": "replace", "path": "/environment", "value": {"name": "staging", "after": "", "first": true}},
])

# rules are the names of the rules in a set of reasons.
rules(reasons) := {reason.rule | some reason in reasons}

finding(class, id) := {
	"id": id, "severity": "critical", "package": "langchain", "version": "0.0.200", "fixedIn": "0.0.312",
	"path": "app/key.pem", "line": 1, "layer": "", "class": class, "title": "", "suppressedBy": "",
}

# also changes facts in more places: an object of values by JSON pointer.
also(facts, changes) := json.patch(facts, [{"op": "replace", "path": path, "value": value} | some path, value in changes])
