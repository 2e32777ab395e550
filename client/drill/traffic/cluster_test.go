package traffic

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"dems/client"
	"dems/client/drill/history"
	"dems/internal/cluster"
	"dems/internal/onenode"
)

// counting is a transport that calls do once, before the request of that number.
type counting struct {
	http.RoundTripper
	wire wire // counts
}

func (c *counting) RoundTrip(request *http.Request) (*http.Response, error) {
	if c.wire.asked.Add(1) == c.wire.limit {
		c.wire.reached()
	}
	return c.RoundTripper.RoundTrip(request)
}

// overNetwork returns a client of front ends that calls reached before the request of that number.
func overNetwork(t *testing.T, limit int64, reached func(), endpoints ...string) *client.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	api, err := client.New(client.Config{
		Endpoints: endpoints, Timeout: 20 * time.Second, AttemptTimeout: 5 * time.Second, MinBackoff: 5 * time.Millisecond,
		RoundTripper: &counting{transport, wire{limit: limit, reached: reached}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// TestFrontEndsThatGoAway loses connections in all ways that there are, and one of two front ends for good.
func TestFrontEndsThatGoAway(t *testing.T) {
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	first, err := onenode.Start(cluster, "fe1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := onenode.Start(cluster, "fe2")
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	closed := make(chan struct{})
	api := overNetwork(t, 1500, func() {
		go func() {
			defer close(closed)
			first.Close()
			second.Fault(onenode.CutAfter, onenode.CutBefore, onenode.CutInside, onenode.BadGateway, onenode.NotOurs)
		}()
	}, first.URL, second.URL)
	recorder := history.NewRecorder(4000)
	traffic, err := Prepare(t.Context(), Config{API: api, Recorder: recorder, Rate: -1, Clients: 16})
	if err != nil {
		t.Fatal(err)
	}
	first.Fault(onenode.None, onenode.CutAfter, onenode.CutInside, onenode.CutBefore, onenode.BadGateway, onenode.CutAfter)
	if err := traffic.Run(t.Context()); !errors.Is(err, history.ErrFull) {
		t.Fatal(err)
	}
	<-closed
	if err := traffic.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken(t, traffic)
	replay(t, recorder.Operations())
	if err := traffic.Clear(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAClusterWhoseLeaderDies is a small drill: three real nodes, of which the leader is killed and started again under load.
func TestAClusterWhoseLeaderDies(t *testing.T) {
	const operations = 6000 / slowdown
	c := cluster.Start(t, cluster.Config{})
	url := c.FrontEnd().URL
	under := make(chan struct{})
	api := overNetwork(t, operations/4, func() { close(under) }, url)
	recorder := history.NewRecorder(operations)
	traffic, err := Prepare(t.Context(), Config{API: api, Recorder: recorder, Rate: 1500, Clients: 24, GroupOperations: 150})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- traffic.Run(t.Context()) }()
	<-under
	killed := c.WaitLeader()
	c.KillNode(killed)
	c.WaitLeader()
	c.StartNode(killed)
	c.WaitReady(killed)
	if err := <-ended; !errors.Is(err, history.ErrFull) {
		t.Fatal(err)
	}
	if err := traffic.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken(t, traffic)
	linearizable(t, recorder.Operations())
	counted := outcomes(recorder.Operations())
	t.Logf("killed %s, %v", killed, counted)
	if counted[history.Answered] != operations {
		t.Errorf("%v: some operations have no answer, although a majority was always there", counted)
	}
	if err := traffic.Clear(t.Context()); err != nil {
		t.Error(err)
	}
	c.WaitEqual()
}
