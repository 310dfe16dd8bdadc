// Command peers copies images with other libraries, as it is told to on standard
// input: a JSON object a line, and one in answer (internal/bench, Order, Done).
// It is a module of its own, so that what peers need is not what we need; their
// commands are built from this module, too, and so at the versions in its go.mod.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/ref"
)

type order struct {
	Library  string `json:"library"`
	Source   string `json:"source"`
	Target   string `json:"target"`
	Jobs     int    `json:"jobs"`
	Evidence bool   `json:"evidence"`
}

type done struct {
	Nanoseconds int64  `json:"nanoseconds"`
	Error       string `json:"error,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(2)
		}
		// No connection outlives a copy, as none does between two commands.
		transport := standard(o.Library).Clone()
		begun := time.Now()
		err := copyImage(o, transport)
		d := done{Nanoseconds: time.Since(begun).Nanoseconds()}
		if err != nil {
			d.Error = err.Error()
		}
		transport.CloseIdleConnections()
		raw, err := json.Marshal(d)
		if err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(2)
		}
		fmt.Printf("%s\n", raw)
	}
}

// standard is the transport that a library takes unless it is given one.
func standard(library string) *http.Transport {
	if library == "crane" {
		return remote.DefaultTransport.(*http.Transport)
	}
	return http.DefaultTransport.(*http.Transport)
}

func copyImage(o order, transport *http.Transport) error {
	switch o.Library {
	case "crane":
		options := []crane.Option{crane.WithTransport(transport)}
		if o.Jobs > 0 {
			options = append(options, crane.WithJobs(o.Jobs))
		}
		return crane.Copy(o.Source, o.Target, options...)
	case "regclient":
		return copyRegclient(o, transport)
	}
	return fmt.Errorf("library %q is unknown", o.Library)
}

func copyRegclient(o order, transport *http.Transport) error {
	src, err := ref.New(o.Source)
	if err != nil {
		return err
	}
	dst, err := ref.New(o.Target)
	if err != nil {
		return err
	}
	var hosts []config.Host
	for _, at := range []string{o.Source, o.Target} {
		name, _, _ := strings.Cut(at, "/")
		h := config.HostNewName(name)
		h.TLS = config.TLSDisabled
		if o.Jobs > 0 {
			h.ReqConcurrent = int64(o.Jobs)
		}
		hosts = append(hosts, *h)
	}
	client := regclient.New(regclient.WithConfigHosts(hosts), regclient.WithRegOpts(reg.WithTransport(transport)))
	var options []regclient.ImageOpts
	if o.Evidence {
		options = append(options, regclient.ImageWithReferrers())
	}
	ctx := context.Background()
	return client.ImageCopy(ctx, src, dst, options...)
}
