package engine

import (
	"slices"
	"testing"
)

// Killed between making the new checkpoint and removing the old one, a save
// leaves both. The same text saved again removes the old one.
func TestACheckpointThatWasLeftIsRemoved(t *testing.T) {
	volume := func(name, generation, text string) string {
		return `{"Name":"` + name + `","Driver":"local","Scope":"local","Labels":{"dev.promote.checkpoint":"x","dev.promote.checkpoint.generation":"` + generation + `","dev.promote.checkpoint.text":"` + text + `"}}`
	}
	s := &stub{version: "1.41", answers: map[string]string{
		"GET /volumes":        `{"Volumes":[` + volume("old", "9", "one") + `,` + volume("new", "10", "two") + `],"Warnings":[]}`,
		"DELETE /volumes/old": "",
	}}
	if err := s.host(t, Options{}).SaveCheckpoint(t.Context(), "x", "two"); err != nil {
		t.Fatal(err)
	}
	var changes []string
	for _, r := range s.seen {
		if r.Method != "GET" && r.Method != "HEAD" {
			changes = append(changes, r.Method+" "+r.URL.Path)
		}
	}
	if !slices.Equal(changes, []string{"DELETE /v1.41/volumes/old"}) {
		t.Errorf("it changed %q", changes)
	}
}
