// Package compose reads Compose files. It merges them as Docker Compose does,
// judges every key of the merged model, gives it as canonical bytes that hold
// nothing of this machine, and later resolves such bytes into a workload that
// the engine package can run.
//
//	files, err := compose.Load(ctx, compose.Options{Dir: dir, Files: []string{"compose.yaml", "compose.prod.yml"}})
//	sources := files.Sources()                   // what to build, what to pin
//	model, needs, err := files.Model()           // a layer of the release
//	reasons := files.Findings()                  // what a host should not be asked for
//	workload, err := compose.Resolve(model, values, images)
//
// It follows the Compose Specification as compose-go v2 implements it. Each
// key of the specification has one verdict (keys.go): taken over, judged by
// its value, without effect, or refused. What has none is refused.
package compose
