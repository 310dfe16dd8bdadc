package compose

import (
	"context"
	"errors"
	"testing"
)

func TestBounded(t *testing.T) {
	_, err := bounded(context.Background(), func() (int, error) {
		panic("the library")
	})
	if err == nil {
		t.Error("a panic of the library went through")
	}
	ctx, cancel := context.WithCancel(context.Background())
	block := make(chan struct{})
	defer close(block)
	go cancel()
	if _, err := bounded(ctx, func() (int, error) { <-block; return 0, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if v, err := bounded(context.Background(), func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
}
