package frontend

import (
	"context"

	"dems"
)

// Replica is one node as the front end sees it. Every method may be called from several goroutines at once and returns
// when its context ends. Errors are *dems.ReplicaError; any other error means that the outcome is unknown. What an
// implementation reports as the node's ID must be proven by the node, not claimed by it.
type Replica interface {
	// Propose puts an entry into the log. Leader only.
	Propose(ctx context.Context, entry []byte) (dems.BatchReply, error)
	// Forward has the leader put an entry into the log, and returns what the node itself got for it.
	Forward(ctx context.Context, entry []byte) (dems.BatchReply, error)
	// Query answers reads from the node's state.
	Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error)
	// Votes hands over the node's recent votes for the session and then all its votes, until the context ends.
	Votes(ctx context.Context, session uint64, receive func([]dems.Vote) error) error
	// Results returns what the node got for a batch: NotReady where it has not applied it.
	Results(ctx context.Context, session, batch uint64) (dems.BatchReply, error)
	// Status returns what the node says of itself.
	Status(ctx context.Context) (dems.NodeStatus, error)
	// CityLog returns ordered records of a city's log.
	CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error)
	// Transfer hands leadership over. Leader only.
	Transfer(ctx context.Context, to dems.NodeID) error
	// Report tells the node's replica manager what this front end has seen.
	Report(ctx context.Context, report dems.Report) error
	// Suspect has the node's replica manager look whether a leader answers, and act if a majority of them agrees.
	Suspect(ctx context.Context, suspicion dems.Suspicion) (dems.Opinion, error)
	// Replace has a node removed, emptied and added again. Leader only; BadRequest says why it cannot be now.
	Replace(ctx context.Context, id dems.NodeID) error
	// Inject makes the node misbehave, or with dems.NoFault ends that; BadRequest unless it was started for drills.
	Inject(ctx context.Context, fault dems.Fault) error
	// StateAt returns the digest of the node's state after the entry with an index; NotReady where it is not known (any more).
	StateAt(ctx context.Context, index uint64) (dems.Digest, error)
	// Backup hands over a backup of the node's state at an index that is at least minIndex: first what it is of, then its bytes,
	// of which each piece belongs to the caller until receive returns.
	Backup(ctx context.Context, minIndex uint64, receive func(dems.BackupPart) error) error
}
