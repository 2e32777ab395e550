package node

import (
	"context"

	"dems"
)

// StateAt implements transport.Handler.
func (n *Node) StateAt(context.Context, uint64) (dems.Digest, error) {
	return dems.Digest{}, replicaError(dems.NotReady, errNotApplied)
}
