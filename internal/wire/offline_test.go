//go:build engine

package wire

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
)

// TestOfflineTouchesNoNetwork runs the real program where the registry, its
// mirror, the key service and every proxy are one listener that counts who
// comes: nobody may with --offline, and somebody must without it.
func TestOfflineTouchesNoNetwork(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var calls atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	addr, dir := listener.Addr().String(), t.TempDir()
	t.Setenv("COSIGN_PASSWORD", "secret")
	for _, name := range []string{"ops", "new"} {
		if _, err := keys(t.Context(), cli.KeyOptions{Generate: true, Key: filepath.Join(dir, name+".key")}); err != nil {
			t.Fatal(err)
		}
	}
	const head = "name: agent\ncompose: {files: [compose.yaml]}\n"
	for name, text := range map[string]string{
		"promote.yaml":  head + "registry: " + addr + "/agent\nsign: {key: ops.key}\n",
		"service.yaml":  head + "registry: " + addr + "/agent\nsign: {key: hashivault://ops}\n",
		"identity.yaml": head + "registry: " + addr + "/agent\nsign: {key: ops.key}\ntrust: {builder: [{name: ci, identity: ci@example.com, issuer: https://accounts.example.com}], promoter: [{name: ops, key: ops.pub}]}\n",
		"compose.yaml":  "name: agent\n", "bundle.json": "{}", "predicate.json": "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	promote := func(line string) (code int, text string) {
		cmd := exec.Command(self, strings.Fields(line)...)
		cmd.Dir = dir
		cmd.Env = []string{asCommand + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "COSIGN_PASSWORD=secret", "VAULT_ADDR=http://" + addr, "VAULT_TOKEN=x",
			"HTTP_PROXY=http://" + addr, "HTTPS_PROXY=http://" + addr, "NO_PROXY=" + addr, "DOCKER_HOST=tcp://" + addr, "BUILDKIT_HOST=tcp://" + addr}
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	zeros := "sha256:" + strings.Repeat("0", 64)
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"version":                   {0, ""},
		"status":                    {0, ""},
		"log":                       {0, ""},
		"trust list":                {0, ""},
		"keys public ops.key":       {0, ""},
		"keys generate another.key": {0, ""},
		"trust add builder --name b --key new.pub --dry-run":        {0, ""},
		"trust rotate --name agent --key new.pub --dry-run":         {0, ""},
		"trust revoke --key new.pub --reason lost --dry-run":        {0, ""},
		"verify " + addr + "/agent/planner:v1":                      {2, "promote copy REF oci:DIR"},
		"verify oci:nothing":                                        {2, "nothing"},
		"keys public hashivault://ops":                              {2, "key service"},
		"-c service.yaml status":                                    {2, "key service"},
		"-c identity.yaml status":                                   {1, "trusted root"},
		"verify-bundle --bundle bundle.json --key ops.pub " + zeros: {3, ""},
		"verify-bundle --bundle bundle.json --certificate-identity a --certificate-oidc-issuer b " + zeros: {1, "trusted root"},
		"sign " + addr + "/agent/planner:v1":              {2, "network"},
		"attest x --type vuln --predicate predicate.json": {2, "network"},
		"scan " + addr + "/agent/planner:v1":              {2, "network"},
		"copy " + addr + "/agent/planner:v1 oci:copied":   {2, "network"},
		"build":                       {2, "network"},
		"release":                     {2, "network"},
		"smoke":                       {2, "network"},
		"to staging":                  {2, "network"},
		"plan --to staging":           {2, "network"},
		"rollback staging --reason x": {2, "network"},
		"resume staging":              {2, "network"},
		"pin":                         {2, "network"},
		"doctor":                      {2, "network"},
		"clean":                       {2, "network"},
		"trust accept --reason x":     {2, "promote trust accept needs the network"},
		"db build " + addr + "/db":    {2, "promote db build needs the network"},
	} {
		calls.Store(0)
		code, text := promote("--offline " + line)
		if n := calls.Load(); n != 0 || code != want.code || !strings.Contains(text, want.says) {
			t.Errorf("promote --offline %s: %d calls, exit %d, want %d and %q\n%s", line, n, code, want.code, want.says, text)
		}
	}
	for _, line := range []string{"verify " + addr + "/agent/planner:v1", "keys public hashivault://ops", "-c identity.yaml status"} {
		calls.Store(0)
		if _, text := promote(line); calls.Load() == 0 {
			t.Errorf("promote %s asks nobody: this test sees nothing\n%s", line, text)
		}
	}
}
