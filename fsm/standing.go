package fsm

import "dems"

// ApplyConfiguration applies a change of the cluster's configuration, which stands in the log like any other entry.
func (m *Machine) ApplyConfiguration(index uint64, members []dems.Member) (Applied, error) {
	m.index = index
	return Applied{StateDigest: m.Digest()}, nil
}

// Members returns the members of the newest applied configuration, in the order of their IDs.
func (m *Machine) Members() []dems.Member { return nil }

// Standings returns the standing of every node that was ever a member, in the order of their IDs.
func (m *Machine) Standings() []dems.Standing { return nil }

// Incidents returns what happened from an index on, in log order.
func (m *Machine) Incidents(from uint64) []dems.Incident { return nil }
