// Command trillmem is the backend of two transparency logs, in memory: it
// prints the address and the tree of each.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/testonly/integration"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	trees := memory.NewTreeStorage()
	integration.SequencerInterval = 100 * time.Millisecond
	env, err := integration.NewLogEnvWithRegistry(ctx, 1, extension.Registry{
		AdminStorage: memory.NewAdminStorage(trees), LogStorage: memory.NewLogStorage(trees, nil), QuotaManager: quota.Noop(),
	})
	if err != nil {
		return err
	}
	for range 2 {
		tree, err := env.Admin.CreateTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
			TreeState: trillian.TreeState_ACTIVE, TreeType: trillian.TreeType_LOG, MaxRootDuration: durationpb.New(0),
		}})
		if err != nil {
			return err
		}
		if _, err := env.Log.InitLog(ctx, &trillian.InitLogRequest{LogId: tree.TreeId}); err != nil {
			return err
		}
		fmt.Print(env.Address, " ", tree.TreeId, " ")
	}
	fmt.Println()
	<-ctx.Done()
	return nil
}
