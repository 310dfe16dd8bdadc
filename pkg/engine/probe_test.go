package engine

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// The image is the same everywhere: whoever compares it with the source sees
// what runs.
func TestProbeImageIsReproducible(t *testing.T) {
	image, err := probeTar()
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:4cda92a73b493f750d0732641e66dfddabd2fd777e15ed05fddadf65774fcfe1"
	if got := release.DigestOf(image).String(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	f, err := elf.NewFile(bytes.NewReader(probeAMD64))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != elf.EM_X86_64 || len(f.Progs) != 1 || f.Progs[0].Filesz != uint64(len(probeAMD64)) || f.Progs[0].Flags != elf.PF_R|elf.PF_X {
		t.Errorf("%+v", f.Progs)
	}
}

// The bytes do what the comments beside them say, where they can run.
func TestProbeCounts(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return
	}
	dir := t.TempDir()
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, probeAMD64, 0o700); err != nil {
		t.Fatal(err)
	}
	for entries, want := range map[int]int{0: 64, 1: 65, 2: 66, 99: 163, 100: 164, 101: 164, 700: 164} {
		full := filepath.Join(dir, strconv.Itoa(entries))
		if err := os.Mkdir(full, 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			name := []string{"..x", ".a", "...", "b"}[i%4] + strconv.Itoa(i)
			if err := os.WriteFile(filepath.Join(full, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := exitCode(t, probe, full); got != want {
			t.Errorf("%d entries: exit code %d, want %d", entries, got, want)
		}
	}
	for _, bad := range []string{filepath.Join(dir, "absent"), probe} {
		if got := exitCode(t, probe, bad); got != 1 {
			t.Errorf("%s: exit code %d", bad, got)
		}
	}
}

func exitCode(t *testing.T, probe, dir string) int {
	t.Helper()
	err := exec.Command(probe, dir).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%s: %v", dir, err)
	}
	return exit.ExitCode()
}
