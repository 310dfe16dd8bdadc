package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// TestMain lets the test binary stand in for promote: started as a worker, it
// serves.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == Command {
		os.Exit(Serve(context.Background(), os.Args[2], handlers, os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

var handlers = map[string]Handler{
	"echo": Typed(func(ctx context.Context, s string) (string, error) {
		step := event.Start(ctx, "echoing")
		step.Done(nil)
		return s + s, nil
	}),
	"deny": Typed(func(context.Context, string) (string, error) {
		return "", &release.Fault{Kind: release.KindDenied, Hint: "do better", File: "a.yaml", Line: 3, Column: 7, Err: errors.New("no")}
	}),
	"live":    Typed(func(ctx context.Context, _ string) (bool, error) { return event.Live(ctx), nil }),
	"environ": Typed(func(context.Context, string) ([]string, error) { return os.Environ(), nil }),
	"die": Typed(func(context.Context, string) (string, error) {
		_, _ = os.Stderr.WriteString("out of luck\n")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		return "", nil
	}),
	"hang": Typed(func(ctx context.Context, _ string) (string, error) { time.Sleep(time.Minute); return "", ctx.Err() }),
}

func init() {
	// tidy takes a while to clean up, says so while nobody may be reading any
	// more, and leaves a note that it came to its end.
	handlers["tidy"] = Typed(func(ctx context.Context, dir string) (string, error) {
		signalled, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
		defer stop()
		_ = os.WriteFile(filepath.Join(dir, "begun"), []byte(strconv.Itoa(os.Getpid())), 0o600)
		<-signalled.Done()
		for range 5 {
			time.Sleep(20 * time.Millisecond)
			event.Noticef(ctx, "tidying")
		}
		return "", os.WriteFile(filepath.Join(dir, "tidied"), nil, 0o600)
	})
	// parent is a promote that waits for its worker.
	handlers["parent"] = Typed(func(ctx context.Context, dir string) (string, error) {
		var none string
		return none, Parent{Environ: os.Environ()}.Call(ctx, "tidy", dir, &none)
	})
}

// until waits for a file.
func until(t *testing.T, path string) {
	t.Helper()
	for range 1000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not come", path)
}

func TestAWorkerCleansUpWithinItsGrace(t *testing.T) {
	for grace, tidied := range map[time.Duration]bool{time.Minute: true, 30 * time.Millisecond: false} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Parent{Environ: os.Environ(), Grace: grace}.Call(ctx, "tidy", dir, new(string)) }()
		until(t, filepath.Join(dir, "begun"))
		cancel()
		<-done
		if _, err := os.Stat(filepath.Join(dir, "tidied")); (err == nil) != tidied {
			t.Errorf("with a grace of %s: tidied %v, want %v", grace, err == nil, tidied)
		}
	}
}

func TestAWorkerCleansUpWhenItsParentIsKilled(t *testing.T) {
	dir := t.TempDir()
	request, err := json.Marshal(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], Command, "parent")
	cmd.Stdin = bytes.NewReader(request)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, filepath.Join(dir, "begun"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, filepath.Join(dir, "tidied"))
}

func TestCall(t *testing.T) {
	var names []string
	ctx := event.With(t.Context(), func(e event.Event) { names = append(names, string(e.Type)+" "+e.Name) })
	var got string
	if err := (Parent{Environ: os.Environ()}).Call(ctx, "echo", "ab", &got); err != nil || got != "abab" {
		t.Fatalf("got %q, %v", got, err)
	}
	if want := []string{"started echoing", "done echoing"}; !slices.Equal(names, want) {
		t.Errorf("events %q, want %q", names, want)
	}
}

func TestWhetherSomebodyWatchesReachesTheChild(t *testing.T) {
	for want, ctx := range map[bool]context.Context{false: t.Context(), true: event.WithLive(t.Context())} {
		var got bool
		if err := (Parent{}).Call(ctx, "live", "", &got); err != nil || got != want {
			t.Errorf("got %t, %v, want %t", got, err, want)
		}
	}
}

func TestFaultsKeepKindHintAndPosition(t *testing.T) {
	err := Parent{}.Call(t.Context(), "deny", "", new(string))
	var fault *release.Fault
	if !errors.As(err, &fault) || fault.Kind != release.KindDenied || fault.Hint != "do better" {
		t.Fatalf("got %#v", err)
	}
	if want := "a.yaml:3:7: no"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestNoKeyReachesAWorker(t *testing.T) {
	environ := []string{
		"PATH=/bin", "COSIGN_PASSWORD=canary", "COSIGN_KEY=canary", "PKCS11_PIN=canary", "TRANSIT_SECRET_ENGINE_PATH=canary", "BAO_TOKEN=canary", "PROMOTE_KEY=canary", "SIGSTORE_ID_TOKEN=canary",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN=canary", "GITHUB_TOKEN=canary", "AWS_SECRET_ACCESS_KEY=canary", "OTHER=canary", "DB_PASSWORD=needed",
	}
	var seen []string
	parent := Parent{Environ: environ, Pass: []string{"DB_PASSWORD", "COSIGN_PASSWORD"}}
	if err := parent.Call(t.Context(), "environ", "", &seen); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(seen, "\n"); strings.Contains(all, "canary") {
		t.Errorf("a worker sees what it must not:\n%s", all)
	}
	if !slices.Contains(seen, "DB_PASSWORD=needed") || !slices.Contains(seen, "PATH=/bin") {
		t.Errorf("a worker misses what it needs: %q", seen)
	}
}

func TestADeadWorkerIsUnavailable(t *testing.T) {
	err := Parent{}.Call(t.Context(), "die", "", new(string))
	if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("got %v", err)
	}
}

func TestCancelEndsTheWorker(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	err := Parent{}.Call(ctx, "hang", "", new(string))
	if !errors.Is(err, context.Canceled) || time.Since(start) > 5*time.Second {
		t.Errorf("got %v after %s", err, time.Since(start))
	}
}

func TestUnknownWorker(t *testing.T) {
	var out strings.Builder
	Serve(t.Context(), "nobody", handlers, strings.NewReader("{}"), &out)
	var m message
	if err := json.Unmarshal([]byte(out.String()), &m); err != nil || m.Fault == nil {
		t.Errorf("got %q", out.String())
	}
}
