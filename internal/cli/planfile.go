package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// savedPlan reads the file that --plan names; nil where it names none.
func savedPlan(c *cli.Context) (*pipeline.SavedPlan, error) {
	if !c.IsSet("plan") {
		return nil, nil
	}
	plan, err := readPlan(c.String("plan"))
	if err != nil {
		return nil, release.Faultf(release.KindUsage, planHint(err), "reading the plan %s: %w", c.String("plan"), err)
	}
	return &plan, nil
}

func planHint(err error) string {
	var f *release.Fault
	if errors.As(err, &f) && f.Hint != "" {
		return f.Hint
	}
	return "give the file that promote plan --to ENV --save FILE wrote"
}

func readPlan(file string) (pipeline.SavedPlan, error) {
	text, err := beginning(file, pipeline.MostPlan+1)
	if err != nil {
		return pipeline.SavedPlan{}, err
	}
	return pipeline.ParsePlan(text)
}

// beginning reads a regular file up to so many bytes.
func beginning(file string, most int64) ([]byte, error) {
	if info, err := os.Stat(file); err != nil { // before opening: a pipe would wait for a writer
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// planPrefix is how every saved plan begins, of whatever version.
const planPrefix = `{"digest":"sha256:`

// savePlan writes a plan at once: who reads the file finds a whole plan. An
// older plan is replaced; a file that is none is somebody's mistake.
func savePlan(file string, result interface{ Save() ([]byte, error) }) (saved *pipeline.SavedFile, err error) {
	defer func() {
		if err != nil && release.KindOf(err) == release.KindInternal {
			err = release.Unavailable("name a file in a directory that can be written", "saving the plan in %s: %w", file, err)
		}
	}()
	text, err := result.Save()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(file); err == nil {
		if text, err := beginning(file, int64(len(planPrefix))); err != nil || string(text) != planPrefix {
			return nil, release.Misuse("name another file, or remove that one", "%s is there and no saved plan; it is left as it is", file)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.tmp") // 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	if err = os.Rename(f.Name(), file); err != nil {
		return nil, err
	}
	return &pipeline.SavedFile{File: file, Digest: release.DigestOf(text)}, nil
}
