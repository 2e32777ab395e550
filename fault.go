package dems

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What goes wrong in drills, on purpose.

// FaultKind says how a node, or its network, is to misbehave in a drill.
type FaultKind uint8

// The faults. Their numbers are sent between servers of different versions: append, never renumber.
const (
	NoFault      FaultKind = iota
	WrongResults           // answers are wrong, the state is right
	WrongState             // the state is silently altered, once
	Slow                   // every answer comes late
	Mute                   // nothing is answered
	Partition              // datagrams to and from peers are lost
	Latency                // datagrams to and from peers are late
	faultKindCount
)

var faultNames = [faultKindCount]string{"none", "wrong-results", "wrong-state", "slow", "mute", "partition", "latency"}

// String returns the fault as clients write it.
func (k FaultKind) String() string {
	if k >= faultKindCount {
		return "unknown"
	}
	return faultNames[k]
}

// FaultKinds returns every fault but NoFault, in the order of their numbers.
func FaultKinds() []FaultKind {
	all := make([]FaultKind, 0, faultKindCount-1)
	for kind := WrongResults; kind < faultKindCount; kind++ {
		all = append(all, kind)
	}
	return all
}

// ParseFaultKind returns the fault with that name. NoFault has none.
func ParseFaultKind(name string) (FaultKind, bool) {
	if at := slices.Index(faultNames[:], name); at > int(NoFault) {
		return FaultKind(at), true
	}
	return NoFault, false
}

// OfNetwork tells whether it is not the node that misbehaves but what lies between it and others.
func (k FaultKind) OfNetwork() bool { return k == Partition || k == Latency }

// Direction says which datagrams a fault of the network concerns, as the node sees it that has the fault.
type Direction uint8

// The directions. Their numbers are sent between servers of different versions: append, never renumber.
const (
	BothWays Direction = iota
	Incoming           // from peers to the node
	Outgoing           // from the node to peers
	directionCount
)

var directionNames = [directionCount]string{"both", "incoming", "outgoing"}

// String returns the direction as clients write it.
func (d Direction) String() string {
	if d >= directionCount {
		return "unknown"
	}
	return directionNames[d]
}

// ParseDirection returns the direction with that name.
func ParseDirection(name string) (Direction, bool) {
	at := slices.Index(directionNames[:], name)
	return Direction(max(at, 0)), at >= 0
}

// FrontEnds among the peers of a fault stands for whoever is no node. A node must not be called that.
const FrontEnds = "frontends"

// Fault is a way to misbehave.
type Fault struct {
	Kind      FaultKind     // NoFault: end all
	Requests  int           // how many requests it spoils before it ends by itself; 0: no limit. At most MaxFaultRequests
	Delay     time.Duration // Slow and Latency only, and needed there: at most MaxFaultDelay
	Jitter    time.Duration // Latency only: up to how much later still, at random; Delay and Jitter are at most MaxFaultDelay
	Peers     []string      // Partition and Latency only: IDs of nodes, and FrontEnds; empty: everybody. At most MaxFaultPeers
	Direction Direction     // Partition and Latency only
	Lasts     time.Duration // Partition, which needs it, and Latency: after how long it ends by itself. At most MaxFaultLasts
}

// Check returns what is wrong with a fault, "" if nothing is.
func (f *Fault) Check() string {
	switch {
	case f.Kind >= faultKindCount:
		return "The kind is " + strings.Join(faultNames[WrongResults:faultKindCount-1], ", ") + " or " + faultNames[faultKindCount-1] + "."
	case f.Requests < 0 || f.Requests > MaxFaultRequests:
		return fmt.Sprintf("The number of requests is 0 to %d.", MaxFaultRequests)
	case f.Kind == WrongState && f.Requests != 0:
		return "The state is altered once: wrong-state takes no number of requests."
	case f.Kind == Slow && (f.Delay <= 0 || f.Delay > MaxFaultDelay):
		return fmt.Sprintf("A slow node needs milliseconds from 1 to %d.", MaxFaultDelay.Milliseconds())
	case f.Kind == Latency && (f.Delay <= 0 || f.Delay > MaxFaultDelay):
		return fmt.Sprintf("Latency needs milliseconds from 1 to %d.", MaxFaultDelay.Milliseconds())
	case f.Kind != Slow && f.Kind != Latency && f.Delay != 0:
		return "Only a slow node and latency take milliseconds."
	}
	return f.checkNetwork()
}

// checkNetwork is Check for what only faults of the network have.
func (f *Fault) checkNetwork() string {
	if !f.Kind.OfNetwork() {
		if len(f.Peers) > 0 || f.Direction != BothWays || f.Lasts != 0 || f.Jitter != 0 {
			return "Only partition and latency take peers, a direction, a jitter and how long they last."
		}
		return ""
	}
	switch {
	case f.Requests != 0:
		return "A fault of the network ends after a time, not after a number of requests."
	case f.Direction >= directionCount:
		return "The direction is incoming, outgoing or both."
	case f.Kind == Partition && (f.Lasts <= 0 || f.Lasts > MaxFaultLasts):
		return fmt.Sprintf("A partition needs how long it lasts, from 1 to %d milliseconds: a node that is cut off cannot be told to end it.",
			MaxFaultLasts.Milliseconds())
	case f.Lasts < 0 || f.Lasts > MaxFaultLasts:
		return fmt.Sprintf("Latency lasts for 1 to %d milliseconds.", MaxFaultLasts.Milliseconds())
	case f.Kind == Partition && f.Jitter != 0:
		return "Only latency takes a jitter."
	case f.Jitter < 0 || f.Jitter > MaxFaultDelay-f.Delay:
		return fmt.Sprintf("Delay and jitter together are at most %d milliseconds.", MaxFaultDelay.Milliseconds())
	case len(f.Peers) > MaxFaultPeers:
		return fmt.Sprintf("At most %d peers.", MaxFaultPeers)
	}
	for i, peer := range f.Peers {
		switch {
		case !ValidName(peer):
			return fmt.Sprintf("Peers are IDs of nodes, and %s: %.40q is neither.", FrontEnds, peer)
		case slices.Contains(f.Peers[:i], peer):
			return fmt.Sprintf("The peer %s stands twice.", peer)
		}
	}
	return ""
}
