package frontend

import (
	"context"
	"io"

	"dems"
)

// Cluster is what the REST layer needs of the cluster; Core implements it. All methods are safe for concurrent use and
// return when their context ends at the latest. Errors are *dems.Error unless said otherwise.
type Cluster interface {
	// Cities returns the cluster's cities. A front end that has just started waits until it has learned them: its clients
	// see a pause. False when the context or the front end ended before.
	Cities(ctx context.Context) (dems.Cities, bool)
	// Do has a mutating command ordered and applied. The command's Time is set by the caller. A refusal is a Reply whose
	// result has a code; an error is Unavailable, NoMajority or Indeterminate.
	Do(ctx context.Context, command dems.Command) (Reply, error)
	// Read answers a command that does not mutate; errors as for Do, never Indeterminate.
	Read(ctx context.Context, command dems.Command) (Reply, error)
	// Registry returns what the central repository knows.
	Registry(ctx context.Context) (dems.Registry, error)
	// Status returns what this front end knows of the nodes. It does not fail: what is not known is down.
	Status(ctx context.Context) ClusterStatus
	// Transfer hands leadership over to a node, "" to any other. NotFound for an unknown node, Unavailable.
	Transfer(ctx context.Context, to dems.NodeID) error
	// CityLog returns a page of a city's ordered log records, confirmed by a majority, from record number first on.
	CityLog(ctx context.Context, city dems.City, first uint64) (dems.CityLogPage, error)
	// Incidents returns what happened to the cluster, from a log index on, in log order.
	Incidents(ctx context.Context, from uint64) ([]dems.Incident, error)
	// Replace has a node removed, emptied and added again. NotFound for an unknown node, Unavailable with the reason where
	// it cannot be now.
	Replace(ctx context.Context, id dems.NodeID) error
	// Inject makes a node misbehave for a drill. NotFound for an unknown node and where nodes are not started for drills.
	Inject(ctx context.Context, id dems.NodeID, fault dems.Fault) error
	// EndFaults ends all faults on all nodes that answer. NotFound where nodes are not started for drills.
	EndFaults(ctx context.Context) error
	// Backup gives a backup of the cluster, of everything that was acknowledged before the call. Begin is called once, when a
	// majority has confirmed what it is of, and says where its bytes go. After an error of begin or of what it returned, that
	// is the error; others are RateLimited, Unavailable and NoMajority. What was written is whole only if there is none. It has
	// no deadline of its own but for what makes no progress.
	Backup(ctx context.Context, begin func(Backup) (io.Writer, error)) error
	// Checks returns the checks of /readyz, each with nil if it passed.
	Checks(ctx context.Context) []Check
}

// Reply is a majority's answer to a command.
type Reply struct {
	Result   dems.Result
	Sequence uint64 // the log index that ordered the request; for a read, an index at which the answer holds
	Agreeing int    // how many nodes gave this answer
	Asked    int    // how many nodes were asked
}

// ClusterStatus is what a front end knows of the cluster.
type ClusterStatus struct {
	Leader dems.NodeID // "" where none is known
	Term   uint64
	Nodes  []NodeView
}

// NodeView is what a front end knows of one node.
type NodeView struct {
	ID          dems.NodeID
	Incarnation uint64
	State       string // healthy, suspected, incorrect, replacing or down
	Suffrage    dems.Suffrage
	Applied     uint64      // log index
	Digest      dems.Digest // of the state at Applied
	Strikes     int
}

// Check is one check of /readyz.
type Check struct {
	Name string
	Err  error // nil: passed
}
