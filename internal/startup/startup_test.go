package startup

import (
	"runtime/debug"
	"testing"
)

func TestOver(t *testing.T) {
	if now := debug.SetGCPercent(-1); now != -1 {
		t.Errorf("the collector works while packages are initialised: %d", now)
	}
	Over()
	if now := debug.SetGCPercent(usual); now != usual {
		t.Errorf("the collector is left at %d, want %d", now, usual)
	}
}
