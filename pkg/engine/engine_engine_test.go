//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// open reaches the engine that docker would reach.
func open(t *testing.T) *engine.Host {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h, err := engine.Open(ctx, release.Target{Name: "test"}, engine.Options{})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no engine: %v", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

var unique atomic.Int64

// prefix gives names that nobody else has.
func prefix() string {
	return fmt.Sprintf("promote-engine-%d-%d", os.Getpid(), unique.Add(1))
}

func TestEngineKeepsTheContract(t *testing.T) {
	h := open(t)
	registry := enginetest.NewRegistry(t)
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		name := prefix()
		image, facts := registry.Push(t, name, enginetest.Image{Version: name})
		t.Cleanup(func() { removeImage(t, image) })
		absent := image
		absent.Digest = release.DigestOf([]byte(strings.ToUpper(name)))
		return enginetest.Fixture{Engine: h, Image: image, Facts: facts, Absent: absent, Prefix: name}
	})
}

func removeImage(t *testing.T, s release.Subject) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h, err := engine.Open(ctx, release.Target{}, engine.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer h.Close()
	if err := h.RemoveImage(ctx, s); err != nil {
		t.Error(err)
	}
}
