package node

import "github.com/hashicorp/raft"

// Raft returns what tests reach around the node's own checks with.
func (n *Node) Raft() *raft.Raft { return n.raft.Load() }
