// Package target is what a drill can do to the processes of a cluster: kill them, stop them and let them go on, restart them,
// cut them off. It owns the two kinds of cluster that drills know, one of `demsd dev` (Dev) and one of containers that compose
// brought up (Compose), and what has to be mended afterwards. It never touches a process that it has not made sure of, it asks
// nothing of front ends, and it starts no goroutine.
package target

import (
	"context"
	"fmt"
	"time"

	"dems"
)

// Cluster is the processes of a cluster, as a drill breaks and mends them. Methods return when what they do is done, and when
// ctx ends at the latest; their errors say what to do. They are safe for concurrent use.
type Cluster interface {
	// Description says for people what the cluster is.
	Description() string
	// Nodes returns the nodes, in order.
	Nodes() []dems.NodeID
	// Serves returns why the cluster is not the one that these endpoints lead to, nil where it is.
	Serves(endpoints []string) error
	// Kill ends a node's process without a chance to say anything.
	Kill(ctx context.Context, id dems.NodeID) error
	// Start has a node that was killed run again. It does not wait until the node has caught up.
	Start(ctx context.Context, id dems.NodeID) error
	// Restart ends a node's process in order and has another one run in its place.
	Restart(ctx context.Context, id dems.NodeID) error
	// Pause stops a node's process without ending it.
	Pause(ctx context.Context, id dems.NodeID) error
	// Resume lets a process go on that was stopped.
	Resume(ctx context.Context, id dems.NodeID) error
	// Heal mends whatever was broken by the other methods, whether they succeeded or not: what was killed runs again, what
	// was stopped goes on, who was cut off is connected. It does as much as it can.
	Heal(ctx context.Context) error
}

// Network is a Cluster that can take a node's network away.
type Network interface {
	// Disconnect cuts a node off from everybody.
	Disconnect(ctx context.Context, id dems.NodeID) error
	// Connect gives a node back what Disconnect took.
	Connect(ctx context.Context, id dems.NodeID) error
}

// lookInterval is how often it is looked whether something has happened that nobody reports.
const lookInterval = 10 * time.Millisecond

// noNode is the error for a node that the cluster does not have.
func noNode(id dems.NodeID, nodes []dems.NodeID) error {
	return fmt.Errorf("there is no node %.40q; the nodes are %v", string(id), nodes)
}
