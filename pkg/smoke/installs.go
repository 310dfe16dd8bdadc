package smoke

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// installVerbs are what package managers install with. Their other commands
// (npm start, uv run, bundle exec) are how programs are run; "" is the manager
// without a command.
var installVerbs = map[string][]string{
	"apk": {"", "add", "update", "upgrade"}, "apt": {"", "install", "update", "upgrade"}, "apt-get": {"", "install", "update", "upgrade", "dist-upgrade"},
	"dpkg": {"-i", "--install", "--unpack", "--configure"}, "pip": {"", "install", "download", "wheel"},
	"gem": {"install", "update"}, "bundle": {"", "install", "update"}, "composer": {"install", "update", "require"},
	"npm": {"install", "i", "ci", "add", "update"}, "pnpm": {"install", "i", "add", "update"}, "yarn": {"", "install", "add", "upgrade"},
	"cargo": {"install", "build", "fetch", "update"}, "go": {"install", "get", "build", "run", "mod"},
	"uv": {"sync", "add", "pip", "tool"}, "poetry": {"install", "add", "update"}, "conda": {"install", "create", "update"},
}

// installLine is a line that only a package manager writes while it installs.
var installLine = regexp.MustCompile(`^Successfully installed [A-Za-z0-9._-]+-[0-9]|^\s*Downloading \S+(\.whl|\.tar\.gz)\b|^Get:[0-9]+ http|^fetch http\S*APKINDEX|^added [0-9]+ packages?\b|^Setting up [a-z0-9.+-]+(:[a-z0-9]+)? \([0-9]`)

// installPlaces are where packages are installed to.
var installPlaces = []string{
	"/site-packages/", "/dist-packages/", "/node_modules/", "/var/lib/dpkg/", "/var/lib/apt/lists/", "/lib/apk/db/", "/gems/", "/.cache/pip/", "/.npm/",
}

var versioned = regexp.MustCompile(`[0-9.]+$`)

// installerAmong says which process installs something; "" if none does.
func installerAmong(processes []release.Process) string {
	for _, p := range processes {
		if installs(p) {
			text := p.Command
			if text == "" {
				text = p.Name
			}
			return "the process " + oneLine(text)
		}
	}
	return ""
}

// installs reads a process's command: a manager by its own name, as a module of
// python, or as a script that an interpreter runs.
func installs(p release.Process) bool {
	words := strings.Fields(p.Command)
	if len(words) == 0 {
		return installing(p.Name, nil)
	}
	program := manager(words[0])
	if installing(program, words[1:]) {
		return true
	}
	switch program {
	case "python", "pypy":
		for i, w := range words[1:] {
			if w == "-m" && i+2 < len(words) {
				return installing(words[i+2], words[i+3:])
			}
		}
	case "node", "ruby", "perl", "php", "sh", "bash":
	default:
		return false
	}
	// The script is the first word that is no option.
	i := slices.IndexFunc(words[1:], func(w string) bool { return !strings.HasPrefix(w, "-") })
	return i >= 0 && installing(manager(strings.TrimSuffix(strings.TrimSuffix(words[i+1], ".js"), "-cli")), words[i+2:])
}

// manager gives a program's name without its path and version: pip3.11 is pip.
func manager(word string) string {
	name := path.Base(word)
	if _, known := installVerbs[name]; known {
		return name
	}
	return versioned.ReplaceAllString(name, "")
}

func installing(name string, arguments []string) bool {
	verbs, known := installVerbs[manager(name)]
	if !known {
		return false
	}
	verb := ""
	for _, a := range arguments {
		if !strings.HasPrefix(a, "-") || slices.Contains(verbs, a) {
			verb = a
			break
		}
	}
	return slices.Contains(verbs, verb)
}
