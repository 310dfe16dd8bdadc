//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	promotions = flag.Int("promotions", 2, "how many promotions and rollbacks the example goes through under load")
	survived   = flag.String("survived", "", "a document whose table of what survived is brought up to date")
)

// Production is promoted and rolled back again and again while somebody uses
// it: no task that it took is lost or done twice, nothing that it learned is
// forgotten, and its memory is the same one.
func TestStateSurvivesPromotionsUnderLoad(t *testing.T) {
	t.Parallel() // the stage is nobody else's by then
	s := theStage
	var status struct {
		Environments []struct{ Release string }
	}
	s.must(t, &promotionResult{}, "to", "staging")
	s.must(t, &promotionResult{}, "to", "production")
	s.must(t, &status, "status", "production")
	older := status.Environments[0].Release
	s.change(t, "another plan")
	s.must(t, &promotionResult{}, "to", "staging")

	u := &user{project: s.project(t, "production"), client: &http.Client{Timeout: 5 * time.Second}, learned: map[string]string{}}
	var before, after struct{ Identity string }
	u.eventually(t, "GET", "/memory", nil, &before)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { u.use(ctx) })
	load.Go(func() { u.follow(ctx) })
	var took []time.Duration
	for n := range *promotions {
		way := []string{"to", "production"}
		if n%2 == 1 {
			way = []string{"rollback", "production", "--to", older, "--reason", "trial"}
		}
		o := s.promote(t, way...)
		took = append(took, o.took)
		if o.code != 0 {
			t.Errorf("promote %s: exit %d\n%s", strings.Join(way, " "), o.code, o.stderr)
			break
		}
		t.Logf("%d: %s in %s; %s", n+1, way[0], o.took.Round(time.Millisecond), u.said())
	}
	stop()
	load.Wait()
	u.eventually(t, "GET", "/memory", nil, &after)
	if before.Identity == "" || before.Identity != after.Identity {
		t.Errorf("the memory was %q, and is %q", before.Identity, after.Identity)
	}
	u.settle(t)
	forgotten := u.forgotten(t)
	for _, what := range u.wrong {
		t.Error(what)
	}
	if u.done == 0 || len(u.learned) == 0 || u.done != u.taken {
		t.Errorf("%s", u.said())
	}
	if list := strings.Fields(docker(t, "ps", "-a", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project="+u.project)); len(list) != 4 {
		t.Errorf("production has the containers %q", list)
	}
	if *survived != "" {
		slices.Sort(took)
		slices.Sort(u.away)
		row := fmt.Sprintf("| promotions and rollbacks | tasks taken | done | lost | done twice or in part | things learned | forgotten | one promotion, median | no answer, median / longest |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n| %d | %d | %d | %d | %d | %d | %d | %.1f s | %.1f s / %.1f s |\n",
			len(took), u.taken, u.done, u.taken-u.done, len(u.wrong), len(u.learned), forgotten, took[len(took)/2].Seconds(), middle(u.away).Seconds(), last(u.away).Seconds())
		if err := between(*survived, "<!-- survived -->", "<!-- /survived -->", row); err != nil {
			t.Error(err)
		}
	}
}

func middle(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)/2]
}

func last(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1]
}

// between replaces what stands between two marks of a document.
func between(path, begin, end, text string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	_, tail, also := strings.Cut(rest, end)
	if !ok || !also {
		return fmt.Errorf("%s: no %s and %s", path, begin, end)
	}
	return os.WriteFile(path, []byte(head+begin+"\n"+text+end+tail), 0o644)
}

// user gives a stack tasks and things to learn, and asks what became of them.
type user struct {
	project string
	client  *http.Client

	mu          sync.Mutex
	taken, done int
	open        []string // tasks that were taken and are not seen done yet
	learned     map[string]string
	wrong       []string
	refused     int
	away        []time.Duration // for how long nothing answered, each time
	address     string
}

func (u *user) said() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return fmt.Sprintf("%d tasks taken, %d done, %d things learned, %d requests without an answer", u.taken, u.done, len(u.learned), u.refused)
}

var errNoAnswer = errors.New("no answer")

// ask makes one request to the planner, wherever it listens now. Only an answer
// counts: what was sent into a connection that broke was promised to nobody.
func (u *user) ask(ctx context.Context, method, path string, body, into any) error {
	u.mu.Lock()
	address := u.address
	u.mu.Unlock()
	if address == "" {
		if address = u.find(ctx); address == "" {
			return errNoAnswer
		}
		u.mu.Lock()
		u.address = address
		u.mu.Unlock()
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	request.Close = true // each one is a client of its own
	request.Header.Set("Content-Type", "application/json")
	response, err := u.client.Do(request)
	if err == nil {
		defer response.Body.Close()
		raw, err = io.ReadAll(response.Body)
	}
	if err != nil || response.StatusCode >= 500 {
		u.mu.Lock()
		u.address = ""
		u.mu.Unlock()
		return errors.Join(errNoAnswer, err)
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, raw)
	}
	return json.Unmarshal(raw, into)
}

// find asks the engine where the planner listens; empty while there is none.
func (u *user) find(ctx context.Context) string {
	id, err := dockerOutput(ctx, "ps", "-q", "--filter", "label=com.docker.compose.project="+u.project, "--filter", "label=com.docker.compose.service=planner")
	if err != nil || id == "" {
		return ""
	}
	address, err := dockerOutput(ctx, "port", strings.Fields(id)[0], "8080/tcp")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(address)
}

// use gives the stack five tasks a second and something to learn with every
// tenth, until ctx ends.
func (u *user) use(ctx context.Context) {
	var silent time.Time
	for n := 0; ctx.Err() == nil; n++ {
		var answer struct{ ID string }
		err := u.ask(ctx, "POST", "/task", map[string]string{"goal": fmt.Sprintf("count the words of task %d and summarise them", n)}, &answer)
		if ctx.Err() != nil {
			return
		}
		u.mu.Lock()
		switch {
		case err == nil && answer.ID != "":
			u.taken++
			u.open = append(u.open, answer.ID)
			if !silent.IsZero() {
				u.away, silent = append(u.away, time.Since(silent)), time.Time{}
			}
		case errors.Is(err, errNoAnswer):
			u.refused++
			if silent.IsZero() {
				silent = time.Now()
			}
		default:
			u.wrong = append(u.wrong, fmt.Sprintf("a task: %v", err))
		}
		u.mu.Unlock()
		if n%10 == 0 {
			key, value := fmt.Sprintf("thing-%d", n), fmt.Sprintf("value %d", n)
			if err := u.ask(ctx, "POST", "/learn", map[string]string{"key": key, "value": value}, &struct{}{}); err == nil {
				u.mu.Lock()
				u.learned[key] = value
				u.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// follow asks for the oldest tasks until ctx ends: the store forgets what was
// done long ago.
func (u *user) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if !u.look(ctx, 50) {
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}
}

// look asks for some of the tasks that are open, and reports whether one more
// was done.
func (u *user) look(ctx context.Context, most int) (more bool) {
	u.mu.Lock()
	some := slices.Clone(u.open[:min(most, len(u.open))])
	u.mu.Unlock()
	for _, id := range some {
		var task struct {
			State   string
			Plan    []json.RawMessage
			Results []json.RawMessage
		}
		err := u.ask(ctx, "GET", "/task/"+id, nil, &task)
		if errors.Is(err, errNoAnswer) || ctx.Err() != nil {
			return false
		}
		wrong := ""
		switch {
		case err != nil:
			wrong = fmt.Sprintf("task %s was taken and is lost: %v", id, err)
		case task.State == "done" && len(task.Results) != len(task.Plan):
			wrong = fmt.Sprintf("task %s is done with %d results of %d steps", id, len(task.Results), len(task.Plan))
		case task.State == "failed":
			wrong = fmt.Sprintf("task %s failed", id)
		case task.State != "done":
			continue
		}
		u.mu.Lock()
		u.open = slices.DeleteFunc(u.open, func(open string) bool { return open == id })
		if wrong == "" {
			u.done++
		} else {
			u.wrong = append(u.wrong, wrong)
		}
		u.mu.Unlock()
		more = true
	}
	return more
}

// settle waits until everything that was taken is done, well or badly.
func (u *user) settle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); len(u.open) > 0; time.Sleep(200 * time.Millisecond) {
		u.look(t.Context(), len(u.open))
		if time.Now().After(deadline) {
			t.Errorf("%d tasks were taken and never done: %q", len(u.open), u.open[:min(3, len(u.open))])
			return
		}
	}
}

// forgotten counts what was learned and is not known any more.
func (u *user) forgotten(t *testing.T) (n int) {
	t.Helper()
	for key, value := range u.learned {
		var known struct{ Value string }
		u.eventually(t, "GET", "/recall/"+key, nil, &known)
		if known.Value != value {
			t.Errorf("learned %s: %q, and knows %q", key, value, known.Value)
			n++
		}
	}
	return n
}

// eventually asks until there is an answer.
func (u *user) eventually(t *testing.T, method, path string, body, into any) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = u.ask(t.Context(), method, path, body, into); err == nil || !errors.Is(err, errNoAnswer) {
			break
		}
	}
	if err != nil {
		t.Error(cmp.Or(err, errNoAnswer))
	}
}
