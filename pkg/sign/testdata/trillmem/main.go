// Command trillmem is the backend of two transparency logs, in memory: it
// prints the address and the tree of each.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/testonly/integration"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// onceOnly takes each leaf once, as the storages do that are not in memory.
type onceOnly struct {
	storage.LogStorage
	mu   sync.Mutex
	have map[string]*trillian.LogLeaf
}

// QueueLeaves says of a leaf that is there that it is.
func (s *onceOnly) QueueLeaves(ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time) ([]*trillian.QueuedLogLeaf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have == nil {
		s.have = map[string]*trillian.LogLeaf{}
	}
	var all []*trillian.QueuedLogLeaf
	for _, leaf := range leaves {
		name := fmt.Sprint(tree.TreeId, "/", string(leaf.LeafIdentityHash))
		if known := s.have[name]; known != nil {
			all = append(all, &trillian.QueuedLogLeaf{Leaf: known, Status: status.New(codes.AlreadyExists, "leaf already exists").Proto()})
			continue
		}
		queued, err := s.LogStorage.QueueLeaves(ctx, tree, []*trillian.LogLeaf{leaf}, at)
		if err != nil {
			return nil, err
		}
		s.have[name] = leaf
		all = append(all, queued...)
	}
	return all, nil
}

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
		AdminStorage: memory.NewAdminStorage(trees), LogStorage: &onceOnly{LogStorage: memory.NewLogStorage(trees, nil)}, QuotaManager: quota.Noop(),
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
