package engine

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestConfinementByTheKernel(t *testing.T) {
	g, proc := fixture(t, "cgroup2"), t.TempDir()
	write(t, filepath.Join(proc, "26902", "status"), "Name:\tplanner\nUmask:\t0022\nUid:\t1000\t1001\t1000\t1000\nNoNewPrivs:\t1\nSeccomp:\t2\n")
	write(t, filepath.Join(proc, "26902", "cmdline"), "/app/planner\x00--serve\x00")
	write(t, filepath.Join(proc, "26915", "status"), "Name:\tpip\nUid:\t0\t0\t0\t0\nNoNewPrivs:\t0\n")
	write(t, filepath.Join(proc, "26902", "mountinfo"), "601 500 0:52 / / ro,relatime master:1 - overlay overlay rw,lowerdir="+strings.Repeat("/l", 5000)+"\n602 601 0:55 / /proc rw - proc proc rw\n")
	seen, ok := g.confinement(proc, 26902)
	if !ok || !seen.Known || !seen.RootReadOnly || len(seen.Processes) != 2 {
		t.Fatalf("%+v %t", seen, ok)
	}
	if p := seen.Processes[0]; p.UID != 1001 || p.Name != "planner" || p.Command != "/app/planner --serve" || !p.NoNewPrivileges || p.PID != 26902 {
		t.Errorf("%+v", p)
	}
	if p := seen.Processes[1]; p.UID != 0 || p.NoNewPrivileges {
		t.Errorf("%+v", p)
	}
	// Something was mounted over the root afterwards.
	write(t, filepath.Join(proc, "26902", "mountinfo"), "601 500 0:52 / / ro,relatime - overlay overlay rw\n700 601 0:60 / / rw,relatime - tmpfs tmpfs rw\n")
	if seen, ok := g.confinement(proc, 26902); !ok || seen.RootReadOnly {
		t.Errorf("%+v %t", seen, ok)
	}
	write(t, filepath.Join(proc, "26902", "mountinfo"), "")
	if seen, ok := g.confinement(proc, 26902); ok {
		t.Errorf("without a root: %+v", seen)
	}
}

func TestConfinementByTheEngine(t *testing.T) {
	s := &stub{version: "1.41", answers: map[string]string{
		"GET /containers/c1/json": `{"Id":"c1","Name":"/x","State":{"Status":"running","Running":true,"Pid":0},"Config":{"User":"1000"},
			"HostConfig":{"ReadonlyRootfs":true,"SecurityOpt":["no-new-privileges"],"Tmpfs":{"/run/x":""}},"Mounts":[{"Type":"volume","Name":"m","Destination":"/srv/memory"}]}`,
		"GET /containers/c1/top":     `{"Titles":["PID","UID","COMMAND","COMMAND"],"Processes":[["7","1000","planner","/app/planner --serve"],["8","0","sh","sh -c x"]]}`,
		"GET /containers/c1/changes": `[{"Path":"/srv","Kind":0},{"Path":"/srv/memory","Kind":1},{"Path":"/run","Kind":0},{"Path":"/run/x","Kind":1},{"Path":"/var","Kind":0},{"Path":"/var/cache.db","Kind":1}]`,
	}}
	seen, err := s.host(t, Options{}).Confinement(context.Background(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if seen.Known || !seen.RootReadOnly || len(seen.Processes) != 2 || seen.Processes[1].UID != 0 || seen.Processes[0].Command != "/app/planner --serve" || !seen.Processes[0].NoNewPrivileges {
		t.Errorf("%+v", seen)
	}
	if !slices.Equal(seen.Written, []string{"/var/cache.db"}) {
		t.Errorf("written %q", seen.Written)
	}
	list, err := s.host(t, Options{}).Processes(context.Background(), "c1")
	if err != nil || len(list) != 2 || list[0].Command != "/app/planner --serve" || list[1].UID != 0 {
		t.Errorf("processes %+v, %v", list, err)
	}
}

// A container decides how many files it writes, not how much we read of it.
func TestAnswersAreBounded(t *testing.T) {
	long := `[` + strings.Repeat(`{"Path":"/`+strings.Repeat("x", 1<<10)+`","Kind":1},`, 40<<10) + `{"Path":"/y","Kind":1}]`
	running := `{"Id":"c1","Name":"/x","State":{"Status":"running","Running":true,"Pid":0},"Config":{},"HostConfig":{}}`
	s := &stub{version: "1.41", answers: map[string]string{
		"GET /containers/c1/json":    running,
		"GET /containers/c1/top":     `{"Titles":["PID","UID","COMMAND","COMMAND"],"Processes":[["7","1000","planner","/app/planner"]]}`,
		"GET /containers/c1/changes": long,
	}}
	seen, err := s.host(t, Options{}).Confinement(context.Background(), "c1")
	if err != nil || len(seen.Written) != 1 || !strings.Contains(seen.Written[0], "32 MiB") {
		t.Errorf("%q, %v", seen.Written, err)
	}
	s.answers["GET /containers/c1/json"] = strings.Replace(running, `"Config":{}`, `"Config":{"Labels":{"x":"`+strings.Repeat("x", mostAnswer)+`"}}`, 1)
	if _, err := s.host(t, Options{}).Confinement(context.Background(), "c1"); !tooLong(err) {
		t.Errorf("got %v", err)
	}
}

func TestWritten(t *testing.T) {
	change := func(paths ...string) (list []container.FilesystemChange) {
		for _, p := range paths {
			list = append(list, container.FilesystemChange{Path: p})
		}
		return list
	}
	got := written(change("/usr", "/usr/lib", "/usr/lib/x", "/gone", "/data", "/data2", "/srv", "/srv/a"), []string{"/data", "/srv/a/b/"})
	if want := []string{"/data2", "/gone", "/usr/lib/x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var many []string
	for i := range 300 {
		many = append(many, "/f"+strings.Repeat("x", i))
	}
	if n := len(written(change(many...), nil)); n != mostWritten {
		t.Errorf("%d paths", n)
	}
	if written(nil, nil) != nil {
		t.Error("nothing was written")
	}
}
