package sign

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/promote-dev/promote/pkg/release"
)

// fetchPublic gets the public instance's trusted root by its update framework,
// from the root of trust that is built in. The metadata that was seen last is
// kept in dir, so nobody can go back to an older one.
// https://theupdateframework.github.io/specification/latest/
func fetchPublic(ctx context.Context, dir string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return fetchRoot(dir, tuf.DefaultOptions().WithFetcher(fetcher{newTransport(ctx, nil)}))
}

func fetchRoot(dir string, options *tuf.Options) ([]byte, error) {
	client, err := tuf.New(options.WithCachePath(dir))
	if err != nil {
		return nil, tidied(err)
	}
	if err := client.Refresh(); err != nil { // also where what is kept has not expired
		return nil, tidied(err)
	}
	text, err := client.GetTarget("trusted_root.json")
	if err != nil {
		return nil, tidied(err)
	}
	return text, nil
}

// fetcher reads the framework's files with the bounds of the signing services.
type fetcher struct{ client transport }

// DownloadFile implements go-tuf's Fetcher. What is not there is
// metadata.ErrDownloadHTTP, by which the framework knows the newest root.
func (f fetcher) DownloadFile(url string, most int64, _ time.Duration) ([]byte, error) {
	r, err := http.NewRequestWithContext(f.client.ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "", "%s is no URL", url)
	}
	response, err := f.client.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: response.StatusCode, URL: url}
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err == nil && int64(len(text)) > most {
		err = &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s has more than %d bytes", url, most)}
	}
	return text, err
}
