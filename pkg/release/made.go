package release

// Made is how a container was made, as its engine reports it: what
// Container's own fields don't say.
type Made struct {
	// Spec holds what a model can ask for, the image's own defaults worked in.
	// Its Ports are those asked for, not those bound; its Networks have the
	// names that the container is known by there, without its id.
	Spec ServiceSpec
	// Further holds, by name, what no model can ask for, where it is not what
	// the engine does by itself: devices, the host's namespaces, …
	Further map[string]string
	// Untold names fields, as drift calls them, that an engine of this version
	// does not know and so cannot tell.
	Untold []string
}

// ImageDefaults are what an image's configuration says for what a model leaves
// open.
type ImageDefaults struct {
	Environment map[string]string
	Command     []string
	Entrypoint  []string
	WorkingDir  string
	StopSignal  string
	Labels      map[string]string
	Expose      []string // "8080/tcp"
	Health      *Health
}

// LabelDesired is what a container was made to be, as JSON: each field by name,
// texts that came from values as fingerprints, and the key of those. The ledger
// holds its digest.
const LabelDesired = "dev.promote.desired"

// Outsider is a container that is not part of the project that was looked at.
type Outsider struct {
	ID        string
	Name      string
	Image     string // as Container.Image
	Reference string
	State     string
	Project   string // the Compose project; empty is none
	Promoted  bool   // promote made it
	Volumes   []string
}
