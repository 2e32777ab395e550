package dems_test

import (
	"strings"
	"testing"
	"time"

	"dems"
)

func TestFaultNames(t *testing.T) {
	kinds, directions := []string{dems.NoFault.String()}, []string{}
	for i, kind := range dems.FaultKinds() {
		if kind != dems.NoFault+dems.FaultKind(i)+1 {
			t.Errorf("kind %d stands at %d", kind, i)
		}
		kinds = append(kinds, kind.String())
	}
	for direction := dems.BothWays; direction <= dems.Outgoing; direction++ {
		directions = append(directions, direction.String())
	}
	for _, test := range []struct {
		got  []string
		want string
	}{
		{kinds, "none wrong-results wrong-state slow mute partition latency"},
		{directions, "both incoming outgoing"},
		{[]string{(dems.Latency + 1).String(), dems.FaultKind(255).String(), (dems.Outgoing + 1).String()}, "unknown unknown unknown"},
	} {
		if got := strings.Join(test.got, " "); got != test.want {
			t.Errorf("%s; want %s", got, test.want)
		}
	}
}

func TestParseFaultKind(t *testing.T) {
	for _, kind := range dems.FaultKinds() {
		if parsed, ok := dems.ParseFaultKind(kind.String()); !ok || parsed != kind {
			t.Errorf("%s is read as %s, %t", kind, parsed, ok)
		}
	}
	for _, name := range []string{"", "none", "unknown", "Slow", "slow ", "wrong"} {
		if parsed, ok := dems.ParseFaultKind(name); ok || parsed != dems.NoFault {
			t.Errorf("%q is read as %s", name, parsed)
		}
	}
}

func TestParseDirection(t *testing.T) {
	for direction := dems.BothWays; direction <= dems.Outgoing; direction++ {
		if parsed, ok := dems.ParseDirection(direction.String()); !ok || parsed != direction {
			t.Errorf("%s is read as %s, %t", direction, parsed, ok)
		}
	}
	for _, name := range []string{"", "unknown", "Both", "in"} {
		if parsed, ok := dems.ParseDirection(name); ok || parsed != dems.BothWays {
			t.Errorf("%q is read as %s", name, parsed)
		}
	}
}

func TestFaultCheck(t *testing.T) {
	peers := func(names ...string) dems.Fault {
		return dems.Fault{Kind: dems.Partition, Lasts: time.Second, Peers: names}
	}
	many := make([]string, dems.MaxFaultPeers+1)
	for i := range many {
		many[i] = "n" + strings.Repeat("0", i)
	}
	for _, test := range []struct {
		fault dems.Fault
		want  string // part of what is wrong
	}{
		{dems.Fault{}, ""},
		{dems.Fault{Kind: dems.WrongResults}, ""},
		{dems.Fault{Kind: dems.WrongResults, Requests: dems.MaxFaultRequests}, ""},
		{dems.Fault{Kind: dems.Mute, Requests: 3}, ""},
		{dems.Fault{Kind: dems.Slow, Delay: dems.MaxFaultDelay}, ""},
		{dems.Fault{Kind: dems.Slow, Delay: time.Millisecond, Requests: 1}, ""},
		{dems.Fault{Kind: dems.Latency + 1}, "wrong-state, slow, mute, partition or latency."},
		{dems.Fault{Kind: dems.Mute, Requests: -1}, "requests"},
		{dems.Fault{Kind: dems.Mute, Requests: dems.MaxFaultRequests + 1}, "requests"},
		{dems.Fault{Kind: dems.WrongState, Requests: 1}, "takes no number of requests"},
		{dems.Fault{Kind: dems.Slow}, "milliseconds from 1 to 10000"},
		{dems.Fault{Kind: dems.Slow, Delay: -1}, "milliseconds"},
		{dems.Fault{Kind: dems.Slow, Delay: dems.MaxFaultDelay + 1}, "milliseconds"},
		{dems.Fault{Kind: dems.Mute, Delay: 1}, "Only a slow node"},

		{dems.Fault{Kind: dems.Partition, Lasts: dems.MaxFaultLasts}, ""},
		{peers("n1", "n3", dems.FrontEnds), ""},
		{peers(many[:dems.MaxFaultPeers]...), ""},
		{dems.Fault{Kind: dems.Partition, Lasts: time.Millisecond, Direction: dems.Outgoing}, ""},
		{dems.Fault{Kind: dems.Latency, Delay: dems.MaxFaultDelay}, ""},
		{dems.Fault{Kind: dems.Latency, Delay: time.Second, Jitter: dems.MaxFaultDelay - time.Second, Lasts: time.Second, Peers: []string{"n1"}}, ""},
		{dems.Fault{Kind: dems.Partition}, "needs how long it lasts"},
		{dems.Fault{Kind: dems.Partition, Lasts: -1}, "needs how long it lasts"},
		{dems.Fault{Kind: dems.Partition, Lasts: dems.MaxFaultLasts + 1}, "from 1 to 600000 milliseconds"},
		{dems.Fault{Kind: dems.Partition, Lasts: 1, Delay: 1}, "Only a slow node and latency"},
		{dems.Fault{Kind: dems.Partition, Lasts: 1, Jitter: 1}, "Only latency takes a jitter"},
		{dems.Fault{Kind: dems.Partition, Lasts: 1, Requests: 1}, "not after a number of requests"},
		{dems.Fault{Kind: dems.Partition, Lasts: 1, Direction: dems.Outgoing + 1}, "The direction is"},
		{dems.Fault{Kind: dems.Latency}, "Latency needs milliseconds from 1 to 10000"},
		{dems.Fault{Kind: dems.Latency, Delay: dems.MaxFaultDelay + 1}, "Latency needs milliseconds"},
		{dems.Fault{Kind: dems.Latency, Delay: 1, Jitter: -1}, "Delay and jitter"},
		{dems.Fault{Kind: dems.Latency, Delay: 1, Jitter: dems.MaxFaultDelay}, "Delay and jitter"},
		{dems.Fault{Kind: dems.Latency, Delay: 1, Jitter: 1<<63 - 1}, "Delay and jitter"},
		{dems.Fault{Kind: dems.Latency, Delay: 1, Lasts: -1}, "Latency lasts"},
		{dems.Fault{Kind: dems.Latency, Delay: 1, Lasts: dems.MaxFaultLasts + 1}, "Latency lasts"},
		{peers(many...), "At most 16 peers"},
		{peers("n1", "n2", "n1"), "n1 stands twice"},
		{peers("n1", ""), `"" is neither`},
		{peers("10.0.0.1:7000"), "is neither"},
		{dems.Fault{Kind: dems.Mute, Peers: []string{"n1"}}, "Only partition and latency"},
		{dems.Fault{Kind: dems.Slow, Delay: 1, Lasts: 1}, "Only partition and latency"},
		{dems.Fault{Kind: dems.Slow, Delay: 1, Jitter: 1}, "Only partition and latency"},
		{dems.Fault{Direction: dems.Incoming}, "Only partition and latency"},
	} {
		if got := test.fault.Check(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.fault, got, test.want)
		}
	}
}
