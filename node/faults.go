package node

import (
	"context"
	"errors"

	"dems"
)

// Inject implements transport.Handler.
func (n *Node) Inject(context.Context, dems.Fault) error {
	return replicaError(dems.BadRequest, errors.New("the node was not started for drills"))
}
