// Command cmd kills promotions and writes what came of it: `make reliability`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/promote-dev/promote/internal/reliability"
)

func main() {
	if len(os.Args) > 7 && os.Args[1] == "trace" {
		os.Exit(trace(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

// trace is this program under another name: AT AFTER FAIL CALL SEEN COMMAND...
func trace(args []string) int {
	at, err1 := strconv.Atoi(args[0])
	after, err2 := strconv.ParseBool(args[1])
	fail, err3 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		return 2
	}
	code, err := reliability.Trace(reliability.TraceOptions{At: at, After: after, Fail: syscall.Errno(fail), Call: args[3], Seen: args[4]}, args[5:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		return 2
	}
	return code
}

func run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := reliability.Plan{World: reliability.Options{Tracer: self, Docker: os.Getenv("DOCKER_HOST"), State: true, Log: os.Stderr}}
	flag.StringVar(&o.World.Binary, "binary", "bin/promote", "the program")
	flag.StringVar(&o.World.Dir, "work", "", "a directory for the workspaces; kept, and used again")
	flag.StringVar(&o.Rows, "rows", "", "a file that keeps finished trials, so that a run can go on where another one ended")
	flag.StringVar(&o.Table, "table", "", "the document whose tables are brought up to date")
	flag.StringVar(&o.RacesFile, "races-file", "", "what the races of goroutines came to, for the table")
	flag.IntVar(&o.Races, "races", 20, "how many races of processes")
	flag.IntVar(&o.Randoms, "randoms", 200, "how many random moments")
	flag.IntVar(&o.Most, "points", 0, "at most so many points of each kind; 0 is all")
	flag.IntVar(&o.Lanes, "lanes", 1, "how many workspaces are used side by side")
	flag.StringVar(&o.Only, "only", "", "of update, restore, undo, undo-restore, resume, first, disk and race, only these, with commas between")
	flag.BoolVar(&o.OnlyReport, "report", false, "only write the document")
	flag.BoolVar(&o.Clean, "clean", false, "take the workspaces away at the end")
	flag.Parse()
	if o.World.Binary, err = filepath.Abs(o.World.Binary); err != nil {
		return err
	}
	return reliability.Run(ctx, o)
}
