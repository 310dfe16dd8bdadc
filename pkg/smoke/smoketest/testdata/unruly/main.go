// Command unruly is a service that misbehaves in exactly one way, so that the
// smoke gate can be held to saying which. MODE names the way and its numbers:
//
//	MODE="leak 65536 64ms"
//
// Beside that it is well-behaved: GET /health, POST /task, state at POST /learn
// and GET /recall, and a stop that finishes what is under way. Memory that it
// takes is mapped and touched by itself, outside Go's heap, so that it grows by
// exactly what the mode says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	debug.SetGCPercent(5) // the garbage of a minute must not look like a leak
	if filepath.Base(os.Args[0]) == "pip" {
		exit(install())
	}
	command := "serve"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch command {
	case "health":
		exit(health())
	case "child": // takes the given memory and ends
		exit(child(os.Args[2]))
	case "job": // a one-shot that succeeds
		fmt.Println("job done")
	default:
		exit(serve(mode()))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// words are a mode and its numbers.
type words []string

func mode() words { return strings.Fields(os.Getenv("MODE")) }

func (w words) is(name string) bool { return len(w) > 0 && w[0] == name }

func (w words) text(i int) string {
	if i < len(w) {
		return w[i]
	}
	fmt.Fprintf(os.Stderr, "MODE=%q: word %d is missing\n", strings.Join(w, " "), i)
	os.Exit(2)
	return ""
}

func (w words) bytes(i int) int {
	n, err := strconv.Atoi(w.text(i))
	if err != nil {
		exit(err)
	}
	return n
}

func (w words) time(i int) time.Duration {
	d, err := time.ParseDuration(w.text(i))
	if err != nil {
		exit(err)
	}
	return d
}

// take maps memory and touches each of its pages.
func take(size int) ([]byte, error) {
	block, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(block); i += os.Getpagesize() {
		block[i] = 1
	}
	return block, nil
}

// child takes memory piece by piece, and offers itself to the kernel to be
// killed for it.
func child(text string) error {
	size, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return err
	}
	const piece = 2 << 20
	for range size / piece {
		if _, err := take(piece); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func give(block []byte) { _ = syscall.Munmap(block) }

const address = "127.0.0.1:8080"

func health() error {
	client := http.Client{Timeout: 4 * time.Second}
	answer, err := client.Get("http://" + address + "/health")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /health answered %d", answer.StatusCode)
	}
	return nil
}

// install is what a package manager does, as far as anybody outside can see.
func install() error {
	fmt.Println("Collecting unruly-plugins")
	time.Sleep(time.Second)
	const packages = "/usr/lib/python3/site-packages"
	if err := os.MkdirAll(packages, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(packages+"/plugins.py", []byte("pass\n"), 0o666); err != nil {
		return err
	}
	fmt.Println("Successfully installed unruly-plugins-1.0")
	return nil
}

func serve(m words) error {
	if err := begin(m); err != nil {
		return err
	}
	server := &http.Server{Handler: handler(m)}
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	warm()
	go misbehave(m)
	signals := make(chan os.Signal, 1)
	if m.is("deaf") {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(signals, syscall.SIGTERM)
	}
	fmt.Println("ready")
	select {
	case err := <-ended:
		return err
	case <-signals:
	}
	fmt.Println("stopping")
	if m.is("loses") {
		return server.Close() // what is under way is cut off
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// warming is the body of our own tasks.
const warming = "{}"

// warm makes the runtime take what it needs under load before anybody looks:
// pages of its heap, stacks and tables, which would look like growth.
func warm() {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 100 {
				answer, err := client.Post("http://"+address+"/task", "application/json", strings.NewReader(warming))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		})
	}
	group.Wait()
}

// begin is what happens before the service listens.
func begin(m words) error {
	switch {
	case m.is("loop"):
		time.Sleep(m.time(1))
		return errors.New("no configuration: giving up")
	case m.is("dial"): // once; a bus that is not there yet is its end
		conn, err := net.DialTimeout("tcp", m.text(1), 2*time.Second)
		if err != nil {
			return fmt.Errorf("connecting to the bus: %w", err)
		}
		return conn.Close()
	case m.is("phone"): // home, before anything else
		conn, err := net.DialTimeout("tcp", m.text(1), 2*time.Second)
		if err != nil {
			return fmt.Errorf("phoning home: %w", err)
		}
		return conn.Close()
	case m.is("late"):
		time.Sleep(m.time(1))
	case m.is("write"):
		return os.WriteFile(m.text(1), []byte("cache\n"), 0o666)
	case m.is("pip"):
		return run("/usr/bin/pip", "install", "unruly-plugins")
	}
	return nil
}

func run(path string, args ...string) error {
	process, err := os.StartProcess(path, append([]string{path}, args...), &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	state, err := process.Wait()
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s: %s", path, state)
	}
	return err
}

// misbehave is what happens while the service runs.
func misbehave(m words) {
	switch {
	case m.is("leak"):
		leak(m.bytes(1), m.time(2))
	case m.is("spike"):
		<-loaded
		time.Sleep(m.time(2))
		if block, err := take(m.bytes(1)); err == nil {
			time.Sleep(m.time(3))
			give(block)
		}
	case m.is("child"):
		<-loaded
		time.Sleep(m.time(2))
		fmt.Println("child:", run("/proc/self/exe", "child", m.text(1)))
	case m.is("sawtooth"):
		sawtooth(m.bytes(1), m.bytes(2), m.time(3))
	case m.is("cache"):
		cache(m.bytes(1), m.text(2))
	case m.is("handles"):
		var open []*os.File // a file that nobody has is closed by the collector
		every(m.time(1), func() {
			if f, err := os.Open("/proc/self/exe"); err == nil {
				open = append(open, f)
			}
		})
	}
}

func every(pause time.Duration, do func()) {
	for range time.Tick(pause) {
		do()
	}
}

// leak takes a block each time one is due, and on a busy machine all that were
// due meanwhile.
func leak(block int, each time.Duration) {
	began, taken := time.Now(), 0
	every(each, func() {
		for ; taken < int(time.Since(began)/each); taken++ {
			_, _ = take(block)
		}
	})
}

// sawtooth goes from low to high in even steps and back at once, as a collector does.
func sawtooth(low, high int, period time.Duration) {
	const steps = 30
	_, _ = take(low)
	var teeth [][]byte
	every(period/steps, func() {
		if len(teeth) == steps {
			for _, t := range teeth {
				give(t)
			}
			teeth = nil
			return
		}
		block, err := take((high - low) / steps)
		if err == nil {
			teeth = append(teeth, block)
		}
	})
}

// cache writes a file piece by piece over half a minute and reads each piece
// twice, which makes the kernel take its pages for ones in use.
func cache(size int, path string) {
	file, err := os.Create(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	const pieces = 150
	piece := make([]byte, size/pieces)
	for n := range pieces {
		offset := int64(n * len(piece))
		if _, err := file.WriteAt(piece, offset); err != nil {
			fmt.Println(err)
			return
		}
		_ = file.Sync()
		for range 2 {
			_, _ = io.Copy(io.Discard, io.NewSectionReader(file, offset, int64(len(piece))))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// loaded is closed by the first task that is not our own.
var (
	loaded = make(chan struct{})
	once   sync.Once
)

// memory is what the service was told to remember.
type memory struct {
	mu   sync.Mutex
	path string
}

func (s *memory) load() map[string]string {
	all := map[string]string{}
	if raw, err := os.ReadFile(s.path); err == nil {
		_ = json.Unmarshal(raw, &all)
	}
	return all
}

func (s *memory) learn(w http.ResponseWriter, r *http.Request) {
	var said struct{ Key, Value string }
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&said); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.load()
	all[said.Key] = said.Value
	raw, _ := json.Marshal(all)
	if err := os.WriteFile(s.path, raw, 0o600); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, map[string]any{"kept": true})
}

func (s *memory) recall(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, known := s.load()[r.PathValue("key")]
	if !known {
		http.Error(w, "nothing is known of "+r.PathValue("key"), http.StatusNotFound)
		return
	}
	answer(w, map[string]any{"value": value})
}

func handler(m words) http.Handler {
	started := time.Now()
	state := &memory{path: filepath.Join(or(os.Getenv("STATE"), "/data"), "state.json")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if m.is("unhealthy") && time.Since(started) > m.time(1) {
			fmt.Println("the model does not answer")
			http.Error(w, "the model does not answer", http.StatusServiceUnavailable)
			return
		}
		if m.is("slow") {
			time.Sleep(m.time(1))
		}
		answer(w, map[string]any{"status": "ok", "loop": map[string]any{"alive": true}})
	})
	mux.HandleFunc("POST /task", func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)); n > int64(len(warming)) {
			once.Do(func() { close(loaded) })
		}
		time.Sleep(2 * time.Millisecond)
		answer(w, map[string]any{"done": true})
	})
	mux.HandleFunc("POST /learn", state.learn)
	mux.HandleFunc("GET /recall/{key}", state.recall)
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
