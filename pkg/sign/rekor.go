package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	tiles "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor/pkg/generated/client/entries"
	"github.com/sigstore/rekor/pkg/generated/models"
	sigstore "github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/promote-dev/promote/pkg/release"
)

// The transparency logs' clients are ours, because theirs bound nothing, and
// fail when an entry is there already: which is what asking again looks like.
var (
	_ sigstore.RekorClient   = rekor1{}
	_ sigstore.RekorV2Client = rekor2{}
)

var jsonBody = http.Header{"Content-Type": {"application/json"}}

// rekor1 writes to a log of Rekor's first version.
// https://github.com/sigstore/rekor/blob/main/openapi.yaml
type rekor1 struct{ service }

// logEntry is how such a log names an entry: the hash of the leaf, with the
// tree's number before it.
var logEntry = regexp.MustCompile(`/api/v1/log/entries/([0-9a-f]{64}|[0-9a-f]{80})$`)

// CreateLogEntry adds an entry, or reads the one that is there.
func (r rekor1) CreateLogEntry(p *entries.CreateLogEntryParams, _ ...entries.ClientOption) (*entries.CreateLogEntryCreated, error) {
	body, err := json.Marshal(p.ProposedEntry)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	status, header, text, err := r.call(p.Context, http.MethodPost, "/api/v1/log/entries", jsonBody, body, http.StatusCreated, http.StatusConflict)
	if err == nil && status == http.StatusConflict {
		// It has the entry: an earlier try arrived, and its answer did not.
		at := logEntry.FindString(header.Get("Location"))
		if at == "" {
			return nil, release.Unavailable("try again", "%s has the entry already and does not say where", r.name)
		}
		_, _, text, err = r.call(p.Context, http.MethodGet, at, nil, nil, http.StatusOK)
	}
	if err != nil {
		return nil, err
	}
	var list models.LogEntry
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 1 {
		return nil, release.Unavailable("check the log's URL", "%s does not answer with one entry", r.name)
	}
	created := &entries.CreateLogEntryCreated{Payload: list}
	for name := range list {
		created.ETag = name
	}
	return created, complete(created)
}

// complete refuses an entry without what is read from it afterwards.
func complete(c *entries.CreateLogEntryCreated) error {
	e := c.Payload[c.ETag]
	if e.LogID == nil || e.LogIndex == nil || e.IntegratedTime == nil || e.Verification == nil || e.Verification.InclusionProof == nil {
		return errors.New("the log's entry has no proof of inclusion")
	}
	proof := e.Verification.InclusionProof
	if proof.RootHash == nil || proof.LogIndex == nil || proof.TreeSize == nil || proof.Checkpoint == nil {
		return errors.New("the log's proof of inclusion is not complete")
	}
	return nil
}

// rekor2 writes to a log of Rekor's second version.
// https://github.com/sigstore/rekor-tiles/blob/main/CLIENTS.md
type rekor2 struct {
	service
	logs  map[string]bool // ids of the logs that the trusted root names
	pause func(context.Context, time.Duration) error
}

// Add adds an entry, or reads the one that is there; it answers when the entry
// is in a checkpoint.
func (r rekor2) Add(ctx context.Context, entry any) (*protorekor.TransparencyLogEntry, error) {
	hashed, ok := entry.(*tiles.HashedRekordRequestV002)
	if !ok {
		return nil, fmt.Errorf("%s takes no %T", r.name, entry)
	}
	body, err := protojson.Marshal(&tiles.CreateEntryRequest{Spec: &tiles.CreateEntryRequest_HashedRekordRequestV002{HashedRekordRequestV002: hashed}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	status, _, text, err := r.call(ctx, http.MethodPost, "/api/v2/log/entries", jsonBody, body, http.StatusCreated, http.StatusOK, http.StatusConflict)
	if err != nil {
		return nil, err
	}
	if status == http.StatusConflict {
		return r.existing(ctx, text)
	}
	added := &protorekor.TransparencyLogEntry{}
	if err := protojson.Unmarshal(text, added); err != nil {
		return nil, release.Unavailable("check the log's URL and rekorVersion", "%s does not answer with an entry", r.name)
	}
	return added, nil
}
