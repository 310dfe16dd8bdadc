// Package deploy makes a target run a workload: observe what is there, plan
// what differs (pure), apply it so that a kill at any point can be taken up
// again, read back what runs. Drift is a plan that is not empty. Smoke runs its
// models in the same way, with Up and Down.
//
// # How a service is replaced
//
// The old container is renamed to "<name>.promote-old-<attempt>", stopped, and
// kept; the new one is created under the name, labelled with the attempt and
// with the id of the one it replaces, started, and waited for. Only when every
// service of the target is well are the old ones removed. So what is on the
// engine says at any moment what was being done: Undo and Finish need nothing
// else, and one of them always leads to a whole state.
//
//	what is there                                Undo                 Finish
//	.promote-old-N, no name                      stop, rename, start  stop, create, start
//	.promote-old-N, name (N) in any state        remove N, as above   keep N or renew it
//	name, .promote-new-N in any state            remove .promote-new  remove it, begin again
//	.promote-old-N, .promote-new-N               remove .promote-new, give it its name,
//	                                             stop, rename, start  stop the old one
//	.promote-undone-N                            remove it            remove it
//	name (N) whose replaced container is gone    ErrCommitted         nothing to do
//
// That is stop-first. Where a service has nothing only once (orderOf), it is
// start-first: the new container is made as "<name>.promote-new-<attempt>" and
// waited for while the old one runs; then the old one is renamed, the new one
// gets the name, and the old one is stopped.
//
// A container's pre_stop hooks stand in its label dev.promote.pre-stop and run
// in it after the rename and before the stop.
//
// The names come before the stops: an engine goes on stopping a container when
// nobody waits for it any more, and until then it looks like one that runs.
//
// An attempt whose new container ran and keeps its state in a later schema than
// the one before is only undone where the attempt's own snapshots bring the state
// back; else Undo says so, and touches nothing.
//
// # Snapshots
//
// A volume is kept between the stop of the old container and the creation of the
// new one: what it holds goes, encrypted, into "…_promote-snapshot-<attempt>-<key>",
// is read back, and then "….note" makes it count. To restore, every container
// that has the volume is put aside, its present state is kept in the same way,
// "…_promote-restore-<attempt>-begun-<volume>" is made, the volume emptied, filled
// and read back, and "…-done-…" made. So:
//
//	what is there              Undo                        Finish
//	snapshot, no note          remove it                   take it again
//	note, nothing begun        keep it                     go on
//	begun, not done            fill from the own snapshot  fill again
//	done                       fill from the own snapshot  go on
//
// Volumes of the model are never removed, and a container whose volume is not the one that
// was there before is not started.
package deploy
