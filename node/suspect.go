package node

import (
	"context"

	"dems"
)

// Suspect implements transport.Handler.
func (n *Node) Suspect(context.Context, dems.Suspicion) (dems.Opinion, error) {
	return dems.Opinion{}, nil
}
