package build

import (
	"context"
	"os"

	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/promote-dev/promote/pkg/release"
)

// contextFS is the build context as the daemon sees it. Files belong to root
// and have the permissions that git records, so that neither the user nor the
// umask of a checkout changes the digest. Modification times stay, because the
// daemon finds changed files by them; the exporter replaces them.
func contextFS(dir string) (fsutil.FS, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &os.PathError{Op: "read", Path: dir, Err: os.ErrInvalid}
	}
	if err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "reading the build context", Err: err,
			Hint: "check build.context in the compose file"}
	}
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, err
	}
	return fsutil.NewFilterFS(files, &fsutil.FilterOpt{Map: normalise})
}

func normalise(_ string, s *fstypes.Stat) fsutil.MapResult {
	s.Uid, s.Gid, s.Xattrs = 0, 0, nil
	mode := os.FileMode(s.Mode)
	switch {
	case mode.IsDir():
		mode = os.ModeDir | 0o755
	case mode.IsRegular() && mode&0o100 != 0:
		mode = 0o755
	case mode.IsRegular():
		mode = 0o644
	}
	s.Mode = uint32(mode)
	return fsutil.MapResultKeep
}

// auth hands the daemon registry tokens; secrets stay in this process where
// the registry issues tokens.
func (j *job) auth() session.Attachable {
	return authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: func(ctx context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
			if j.o.Credentials == nil {
				return types.AuthConfig{}, nil
			}
			if host == authprovider.DockerHubRegistryHost || host == "docker.io" {
				host = "index.docker.io"
			}
			user, secret, err := j.o.Credentials(ctx, host)
			if err != nil {
				return types.AuthConfig{}, err
			}
			if user == "" {
				return types.AuthConfig{IdentityToken: secret}, nil
			}
			return types.AuthConfig{Username: user, Password: secret}, nil
		},
	})
}
