package fsm

import (
	"errors"

	"dems"
)

// ErrOrigin is the cause when Apply is given the first entry of a cluster that was restored from another backup than this
// state is.
var ErrOrigin = errors.New("restored from another backup")

// Origin returns what a backup of this state is called.
func (m *Machine) Origin() dems.Origin { return dems.Origin{Index: m.index, Digest: m.Digest()} }

// descend makes the state that of a new cluster, which has been restored from a backup. What belonged to the nodes and the
// front ends of the old one is let go of: its members, where they stood and what was found against them, who was registered,
// and the sessions. What clients know of stays: events, bookings, idempotency keys and city logs, and the incidents, which
// are history.
func (m *Machine) descend() {
	c := &m.cluster
	m.replaceMembers(nil)
	for i := range c.standings {
		m.common.remove(c.standings[i].hash())
	}
	c.standings = nil
	for i := range m.registry.nodes {
		m.common.remove(m.registry.nodes[i].hash(nodeSeed))
	}
	for i := range m.registry.frontEnds {
		m.common.remove(m.registry.frontEnds[i].hash(frontEndSeed))
	}
	m.registry = registry{version: m.index}
	for len(m.sessions.open) > 0 {
		m.forgetSession()
	}
}
