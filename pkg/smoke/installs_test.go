package smoke

import (
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func TestWhoInstalls(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]bool{
		"/usr/bin/pip": true, "pip install -r requirements.txt": true, "pip3 install x": true, "pip3.11 --quiet install x": true, "pip list": false, "pip --version": true,
		"/usr/bin/python3 -m pip install x": true, "/usr/local/bin/python3.11 /usr/local/bin/pip install x": true, "python -m pip freeze": false,
		"python3 -m agent.planner": false, "python3 app.py install": false, "python3 -m": false,
		"apt-get update": true, "apt-get -y install curl": true, "apt-cache search x": false, "dpkg --configure -a": true, "dpkg -l": false, "dpkg-query -W": false,
		"apk add --no-cache curl": true, "apk info": false,
		"npm ci": true, "npm start": false, "npm run start": false, "node /usr/lib/node_modules/npm/bin/npm-cli.js install": true,
		"node /usr/lib/node_modules/npm/bin/npm-cli.js start": false, "node server.js install": false, "node --max-old-space-size=100 /usr/bin/npm ci": true,
		"yarn": true, "yarn start": false, "pnpm i": true,
		"go run .": true, "go": false, "/srv/go serve": false, "cargo build": true, "uv sync": true, "uv run app": false, "poetry run x": false, "poetry install": true,
		"bundle exec puma": false, "bundle install": true, "ruby /usr/bin/bundle install": true, "conda run x": false, "conda install x": true,
		"/probe run": false, "redis-server --save": false, "sh -c pip": true, "sh -c npm start": false, "sh /usr/bin/pip install": true, "": false,
	} {
		if got := installs(release.Process{Name: "x", Command: command}); got != want {
			t.Errorf("%q installs: %v, want %v", command, got, want)
		}
	}
	if !installs(release.Process{Name: "pip3"}) || !installs(release.Process{Name: "apt-get"}) || installs(release.Process{Name: "go"}) {
		t.Error("a process of which only the name is known")
	}
	for line, want := range map[string]bool{
		"Successfully installed requests-2.31.0": true, "  Downloading requests-2.31.0-py3-none-any.whl (62 kB)": true, "Get:1 http://deb.debian.org bookworm": true,
		"fetch https://dl-cdn.alpinelinux.org/v3/main/x86_64/APKINDEX.tar.gz": true, "added 42 packages in 3s": true, "Setting up curl (7.88.1-10)": true,
		"Collecting garbage": false, "Downloading model.bin": false, "added 3 tasks": false, "Setting up routes": false, "Get: http": false, "Successfully installed": false,
	} {
		if got := installLine.MatchString(line); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
	for file, want := range map[string]bool{
		"/usr/lib/python3/dist-packages/x": true, "/srv/node_modules": true, "/root/.cache/pip": true, "/srv/gems.txt": false, "/var/lib/agent/x": false,
	} {
		if got := installedFile([]string{"/a", file}) != ""; got != want {
			t.Errorf("%q: %v, want %v", file, got, want)
		}
	}
}
