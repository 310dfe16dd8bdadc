// Command probe is the only program of the test image: it runs until it is
// told to stop, exits with a code, answers health checks, writes and reads a
// file, or eats memory.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	argument := ""
	if len(os.Args) > 2 {
		argument = os.Args[2]
	}
	switch os.Args[1] {
	case "run": // until SIGTERM
		run(argument)
	case "exit": // with a code
		code, _ := strconv.Atoi(argument)
		fmt.Println("exiting with", code)
		os.Exit(code)
	case "ok": // a health check that passes
	case "fail": // a health check that does not
		fmt.Println("not well")
		os.Exit(1)
	case "write": // a file
		if err := os.WriteFile(argument, []byte(os.Args[3]), 0o600); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "read": // a file
		raw, err := os.ReadFile(argument)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Stdout.Write(raw)
	case "say": // to both streams
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "flood": // more output than anybody keeps
		line := make([]byte, 1024)
		for i := range line {
			line[i] = 'x'
		}
		for range 4096 {
			os.Stdout.Write(line)
		}
	case "child": // runs itself, and survives its end
		out, err := exec.Command("/probe", os.Args[2:]...).CombinedOutput()
		fmt.Printf("child: %v %s\n", err, out)
		run("")
	case "leak": // a MiB at a time, touched
		var kept [][]byte
		for {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			kept = append(kept, block)
			_ = kept
		}
	}
}

// run serves /health, when given an address, and ends on SIGTERM.
func run(address string) {
	fmt.Println("running")
	if address != "" {
		http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
		go func() { _ = http.ListenAndServe(address, nil) }()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	time.Sleep(10 * time.Millisecond)
	fmt.Println("stopped")
}
