package release

import (
	"encoding/json"
	"slices"
	"strings"
)

// LabelAdopted is on volumes that hold nothing but this: a JSON list of
// Adoption. A container's labels cannot be changed while it runs, so what one
// would say about itself if promote had made it lies beside it.
const LabelAdopted = "dev.promote.adopted"

// mostAdopted bounds what is read of a label that somebody else may have set.
const mostAdopted = 4 << 20

// Adoption is a container that was taken over as it ran.
type Adoption struct {
	Container string `json:"container"` // the engine's id
	// Found is Compose's hash that the container carries, ConfigHash the one of
	// the service that it stands for.
	Found      string `json:"found"`
	ConfigHash string `json:"configHash"`
	// Labels are promote's own, which say what it was found to be.
	Labels map[string]string `json:"labels"`
}

// Adoptions are the containers that a volume says were adopted.
func (v ObservedVolume) Adoptions() []Adoption {
	var list []Adoption
	if text := v.Labels[LabelAdopted]; text == "" || len(text) > mostAdopted || json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}

// TakeOver lets the containers that were adopted say what their notes say. It
// decides nothing: whether that is what was recorded is the ledger's to say, as
// with a label that the container carries itself.
func (o Observed) TakeOver(project string) {
	for _, v := range o.Volumes {
		if v.Labels[LabelProject] != project {
			continue
		}
		for _, a := range v.Adoptions() {
			i := slices.IndexFunc(o.Containers, func(c Container) bool { return c.ID == a.Container })
			if i < 0 || o.Containers[i].ConfigHash != a.Found || o.Containers[i].Labels[LabelDesired] != "" {
				continue
			}
			c := &o.Containers[i]
			c.ConfigHash = a.ConfigHash
			labels := map[string]string{}
			for key, value := range c.Labels {
				labels[key] = value
			}
			for key, value := range a.Labels {
				if strings.HasPrefix(key, "dev.promote.") && key != LabelSequence {
					labels[key] = value
				}
			}
			c.Labels = labels
		}
	}
}
