package wire

import (
	"path/filepath"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/registry"
)

// openRegistry makes the client of every command: people's credentials,
// certificates and proxies are found where they keep them, and promote.yaml
// says the rest. hosts may be nil.
func openRegistry(hosts map[string]registry.Host) (*registry.Client, error) {
	o := registry.Options{Hosts: hosts}
	if dir, err := cacheDir("registry"); err == nil {
		o.Capabilities = registry.RememberCapabilities(filepath.Join(dir, "capabilities.json"))
	}
	return registry.New(o)
}

// registryHosts are the settings of promote.yaml in the client's form. They
// travel to child processes, which read no configuration.
func registryHosts(settings map[string]config.RegistrySettings) map[string]registry.Host {
	hosts := map[string]registry.Host{}
	for host, s := range settings {
		hosts[host] = registry.Host{PlainHTTP: s.PlainHTTP, CA: s.CA, Mirrors: s.Mirrors, ManifestFirst: s.ManifestFirst}
	}
	return hosts
}
