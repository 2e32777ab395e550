package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/transport/rpc"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

// inspector is a stub that keeps what the calls about members were given.
type inspector struct {
	stub
	mutex      sync.Mutex
	reports    []dems.Report
	suspicions []dems.Suspicion
	indexes    []uint64
	replaced   []dems.NodeID
	faults     []dems.Fault
}

var (
	opinion = dems.Opinion{Agrees: true, Term: 1<<64 - 1, LastTerm: 1 << 63, LastIndex: 1 << 62}
	state   = dems.Digest{1, 2, 3, 15: 255}
)

func newInspector() *inspector {
	i := &inspector{}
	keep := func(what func()) {
		i.mutex.Lock()
		defer i.mutex.Unlock()
		what()
	}
	i.report = func(_ context.Context, report dems.Report) error {
		keep(func() { i.reports = append(i.reports, report) })
		return nil
	}
	i.suspect = func(_ context.Context, suspicion dems.Suspicion) (dems.Opinion, error) {
		keep(func() { i.suspicions = append(i.suspicions, suspicion) })
		return opinion, nil
	}
	i.stateAt = func(_ context.Context, index uint64) (dems.Digest, error) {
		keep(func() { i.indexes = append(i.indexes, index) })
		return state, nil
	}
	i.replace = func(_ context.Context, id dems.NodeID) error {
		keep(func() { i.replaced = append(i.replaced, id) })
		return nil
	}
	i.inject = func(_ context.Context, fault dems.Fault) error {
		keep(func() { i.faults = append(i.faults, fault) })
		return nil
	}
	return i
}

// got returns how many calls came through.
func (i *inspector) got() int {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return len(i.reports) + len(i.suspicions) + len(i.indexes) + len(i.replaced) + len(i.faults)
}

func TestCallsAboutMembersCross(t *testing.T) {
	inspector := newInspector()
	_, replica := pair(t, &inspector.stub)
	ctx := t.Context()
	evidence := strings.Repeat("é", dems.MaxEvidenceBytes/2)
	reports := []dems.Report{
		{Kind: dems.WrongAnswerReport, Node: "n2", Incarnation: 1, Strikes: 1, Indexes: []uint64{7}},
		{
			Kind: dems.AccusationReport, Node: "n3", Incarnation: 1<<64 - 1, Strikes: 1<<31 - 1,
			Indexes: []uint64{0, 1, 2, 3, 4, 5, 6, 1<<64 - 1}, Expected: evidence, Answered: evidence,
		},
		{Kind: dems.NoMajorityReport, Expected: "a"},
	}
	for _, report := range reports {
		if err := replica.Report(ctx, report); err != nil {
			t.Errorf("Report: %v", err)
		}
	}
	suspicion := dems.Suspicion{Leader: "n2", Term: 1<<64 - 1}
	if got, err := replica.Suspect(ctx, suspicion); err != nil || got != opinion {
		t.Errorf("Suspect: %+v, %v", got, err)
	}
	if got, err := replica.StateAt(ctx, 1<<64-1); err != nil || got != state {
		t.Errorf("StateAt: %v, %v", got, err)
	}
	if err := replica.Replace(ctx, "n3"); err != nil {
		t.Errorf("Replace: %v", err)
	}
	faults := []dems.Fault{
		{},
		{Kind: dems.WrongResults, Requests: dems.MaxFaultRequests},
		{Kind: dems.WrongState},
		{Kind: dems.Slow, Requests: 1, Delay: dems.MaxFaultDelay},
		{Kind: dems.Slow, Delay: time.Millisecond},
		{Kind: dems.Mute, Requests: 2},
		{Kind: dems.Partition, Lasts: dems.MaxFaultLasts},
		{Kind: dems.Partition, Lasts: time.Millisecond, Direction: dems.Outgoing, Peers: []string{"n1", "n3", dems.FrontEnds}},
		{Kind: dems.Latency, Delay: time.Second, Jitter: 9 * time.Second, Direction: dems.Incoming, Lasts: time.Minute},
	}
	for _, fault := range faults {
		if err := replica.Inject(ctx, fault); err != nil {
			t.Errorf("Inject: %v", err)
		}
	}
	inspector.mutex.Lock()
	defer inspector.mutex.Unlock()
	for what, pair := range map[string][2]any{
		"reports":    {inspector.reports, reports},
		"suspicions": {inspector.suspicions, []dems.Suspicion{suspicion}},
		"indexes":    {inspector.indexes, []uint64{1<<64 - 1}},
		"replaced":   {inspector.replaced, []dems.NodeID{"n3"}},
		"faults":     {inspector.faults, faults},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s arrived as %+v, want %+v", what, pair[0], pair[1])
		}
	}
}

func TestMembersAndIncidentsInOtherCalls(t *testing.T) {
	status := dems.NodeStatus{
		ID: "n1", Incarnation: 2, Digest: dems.Digest{7},
		Members: []dems.Member{
			{ID: "n1", Incarnation: 2, Address: "a:1", Suffrage: dems.Voter},
			{ID: "n2", Incarnation: 1<<64 - 1, Address: "b:2", Suffrage: dems.Nonvoter},
			{ID: "n3", Incarnation: 4, Suffrage: dems.None},
		},
	}
	for condition := dems.Correct; condition <= dems.Quarantined; condition++ {
		status.Standings = append(status.Standings, dems.Standing{
			Node: "n2", Incarnation: 3, Condition: condition, Since: 1 << 40,
		})
	}
	queries := dems.QueryBatch{Queries: []dems.Query{
		{Kind: dems.IncidentsQuery}, {Kind: dems.IncidentsQuery, From: 1<<64 - 1}, {Kind: dems.RegistryQuery},
	}}
	incidents := dems.AppendIncidents(nil, []dems.Incident{{
		Sequence: 9, Kind: dems.VerdictIncident, Time: time.UnixMilli(5).UTC(), Node: "n2", Incarnation: 3, By: "n1", Index: 8,
	}})
	_, replica := pair(t, &stub{
		status: func(context.Context) (dems.NodeStatus, error) { return status, nil },
		query: func(_ context.Context, got dems.QueryBatch) (dems.QueryReply, error) {
			if !reflect.DeepEqual(got, queries) {
				return dems.QueryReply{}, fmt.Errorf("got %+v", got)
			}
			return dems.QueryReply{Incarnation: 3, Applied: 10, Answers: []dems.Answer{{Version: 9, Result: incidents}, {}, {}}}, nil
		},
	})
	if got, err := replica.Status(t.Context()); err != nil || !reflect.DeepEqual(got, status) {
		t.Errorf("got %+v, %v; want %+v", got, err, status)
	}
	reply, err := replica.Query(t.Context(), queries)
	if err != nil || reply.Incarnation != 3 || reply.Node != "n1" || !bytes.Equal(reply.Answers[0].Result, incidents) {
		t.Errorf("got %+v, %v", reply, err)
	}
}

// TestRequestsAboutMembersAreChecked sends what a client that is not ours may send.
func TestRequestsAboutMembersAreChecked(t *testing.T) {
	inspector := newInspector()
	_, replica := pair(t, &inspector.stub)
	long := strings.Repeat("x", dems.MaxEvidenceBytes+1)
	accusation := func(change func(*rpc.ReportRequest)) *rpc.ReportRequest {
		request := &rpc.ReportRequest{Kind: uint32(dems.AccusationReport), Node: "n2"}
		change(request)
		return request
	}
	send := func(request proto.Message) error {
		ctx, call, cancel := replica.begin(t.Context())
		defer cancel()
		var err error
		switch request := request.(type) {
		case *rpc.ReportRequest:
			_, err = replica.client.Report(ctx, request)
		case *rpc.SuspectRequest:
			_, err = replica.client.Suspect(ctx, request)
		case *rpc.ReplaceRequest:
			_, err = replica.client.Replace(ctx, request)
		case *rpc.InjectRequest:
			_, err = replica.client.Inject(ctx, request)
		}
		return clientError(call, err)
	}
	for what, request := range map[string]proto.Message{
		"a report of no kind":         accusation(func(r *rpc.ReportRequest) { r.Kind = 0 }),
		"a report of a later kind":    accusation(func(r *rpc.ReportRequest) { r.Kind = 4 }),
		"a report of kind 256+2":      accusation(func(r *rpc.ReportRequest) { r.Kind = 258 }),
		"a report about nobody":       accusation(func(r *rpc.ReportRequest) { r.Node = "" }),
		"a report about no name":      accusation(func(r *rpc.ReportRequest) { r.Node = "N/2" }),
		"no majority of no name":      &rpc.ReportRequest{Kind: uint32(dems.NoMajorityReport), Node: "N/2"},
		"too many indexes":            accusation(func(r *rpc.ReportRequest) { r.Indexes = make([]uint64, dems.MaxReportIndexes+1) }),
		"too long an expectation":     accusation(func(r *rpc.ReportRequest) { r.Expected = long }),
		"too long an answer":          accusation(func(r *rpc.ReportRequest) { r.Answered = long }),
		"a suspicion of nobody":       &rpc.SuspectRequest{Term: 1},
		"a suspicion of no name":      &rpc.SuspectRequest{Leader: strings.Repeat("n", 33)},
		"a replacement of nobody":     &rpc.ReplaceRequest{},
		"a replacement of no name":    &rpc.ReplaceRequest{Node: "n 2"},
		"an unknown fault":            &rpc.InjectRequest{Kind: uint32(dems.Mute) + 1},
		"fault 256+1":                 &rpc.InjectRequest{Kind: 257},
		"too many requests":           &rpc.InjectRequest{Kind: uint32(dems.Mute), Requests: dems.MaxFaultRequests + 1},
		"negative requests":           &rpc.InjectRequest{Kind: uint32(dems.Mute), Requests: 1<<32 - 1},
		"a slow node without a delay": &rpc.InjectRequest{Kind: uint32(dems.Slow)},
		"too long a delay":            &rpc.InjectRequest{Kind: uint32(dems.Slow), DelayMs: uint32(dems.MaxFaultDelay.Milliseconds()) + 1},
		"the longest delay":           &rpc.InjectRequest{Kind: uint32(dems.Slow), DelayMs: 1<<32 - 1},
		"a mute node with a delay":    &rpc.InjectRequest{Kind: uint32(dems.Mute), DelayMs: 1},
	} {
		if failure := kind(t, send(request), dems.BadRequest); len(failure.Error()) > 2*dems.MaxEvidenceBytes {
			t.Errorf("%s: the node answers %d bytes", what, len(failure.Error()))
		}
	}
	if got := inspector.got(); got != 0 {
		t.Errorf("%d of them got through", got)
	}
}

func TestClientsCheckFaultsBeforeTheySendThem(t *testing.T) {
	replica := start(t, "fe1", Config{}).Replica("127.0.0.1:1") // nobody is there
	kind(t, replica.Inject(t.Context(), dems.Fault{Kind: dems.Slow}), dems.BadRequest)
	kind(t, replica.Inject(t.Context(), dems.Fault{Kind: dems.Mute, Requests: -1}), dems.BadRequest)
}

func TestErrorsOfCallsAboutMembersKeepTheirKind(t *testing.T) {
	answer := &dems.ReplicaError{Kind: dems.NotLeader, Leader: "n3", Err: errors.New("text")}
	_, replica := pair(t, &stub{
		report:  func(context.Context, dems.Report) error { return answer },
		suspect: func(context.Context, dems.Suspicion) (dems.Opinion, error) { return opinion, answer },
		stateAt: func(context.Context, uint64) (dems.Digest, error) { return state, answer },
		replace: func(context.Context, dems.NodeID) error { return answer },
		inject:  func(context.Context, dems.Fault) error { return answer },
	})
	for name, call := range membersCalls(t, replica) {
		if got := kind(t, call(), dems.NotLeader); got.Leader != "n3" || got.Err.Error() != "text" {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// membersCalls are the calls about members, each as it may be. Values that come with an error must be zero.
func membersCalls(t *testing.T, replica *Replica) map[string]func() error {
	return map[string]func() error{
		"Report": func() error { return replica.Report(t.Context(), dems.Report{Kind: dems.NoMajorityReport}) },
		"Suspect": func() error {
			got, err := replica.Suspect(t.Context(), dems.Suspicion{Leader: "n2"})
			if got != (dems.Opinion{}) {
				t.Errorf("Suspect: %+v comes with %v", got, err)
			}
			return err
		},
		"StateAt": func() error {
			got, err := replica.StateAt(t.Context(), 1)
			if got != (dems.Digest{}) {
				t.Errorf("StateAt: %v comes with %v", got, err)
			}
			return err
		},
		"Replace": func() error { return replica.Replace(t.Context(), "n2") },
		"Inject":  func() error { return replica.Inject(t.Context(), dems.Fault{}) },
	}
}

func TestBeforeServeNothingIsKnownOfMembers(t *testing.T) {
	node := start(t, "n1", Config{})
	for name, call := range membersCalls(t, start(t, "fe1", Config{}).Replica(node.Addr().String())) {
		t.Run(name, func(t *testing.T) { kind(t, call(), dems.NotReady) })
	}
}

// older is a node of a version that knows none of the calls about members and none of the fields that came with them.
type older struct {
	rpc.UnimplementedReplicaHandler
	digest []byte // what it answers to StateAt, if anything
}

func (older) Status(context.Context, *rpc.StatusRequest) (*rpc.StatusReply, error) {
	return &rpc.StatusReply{
		Digest: make([]byte, 16), Ready: true, Members: []*rpc.Member{{Id: "n1", Suffrage: "voter", Address: "a:1"}},
	}, nil
}

func (older) Query(_ context.Context, request *rpc.QueryRequest) (*rpc.QueryReply, error) {
	return &rpc.QueryReply{Applied: request.MinIndex, Versions: []uint64{1}, Sizes: []uint32{1}, Results: []byte("r")}, nil
}

func (o older) StateAt(ctx context.Context, request *rpc.StateAtRequest) (*rpc.StateAtReply, error) {
	if o.digest == nil {
		return o.UnimplementedReplicaHandler.StateAt(ctx, request)
	}
	return &rpc.StateAtReply{Digest: o.digest}, nil
}

// oddPair is pair with a service instead of a handler.
func oddPair(t *testing.T, service rpc.ReplicaHandler) *Replica {
	t.Helper()
	node := start(t, "n1", Config{})
	node.mutex.Lock() // which whoever admits a connection holds, too
	_, node.server.Handler = rpc.NewReplicaHandler(service)
	node.mutex.Unlock()
	return start(t, "fe1", Config{}).Replica(node.Addr().String())
}

func TestOlderNodesAreUnderstood(t *testing.T) {
	replica := oddPair(t, older{})
	for name, call := range membersCalls(t, replica) {
		t.Run(name, func(t *testing.T) { kind(t, call(), dems.BadRequest) }) // certainly not done, and it never will be
	}
	status, err := replica.Status(t.Context())
	if err != nil || !status.Ready || status.Standings != nil || status.Members[0].Incarnation != 0 {
		t.Errorf("got %+v, %v", status, err)
	}
	reply, err := replica.Query(t.Context(), dems.QueryBatch{MinIndex: 5, Queries: []dems.Query{scheduleQuery()}})
	if err != nil || reply.Incarnation != 0 || reply.Applied != 5 || string(reply.Answers[0].Result) != "r" {
		t.Errorf("got %+v, %v", reply, err)
	}
	// A call that this version does not know either: it is refused before anything looks at what is in it.
	unknown := connect.NewClient[rpc.StatusRequest, rpc.StatusReply](&requester{replica.connector},
		"https://"+serverName("")+"/dems.v1.Replica/Later")
	ctx, call, cancel := replica.begin(t.Context())
	defer cancel()
	_, err = unknown.CallUnary(ctx, connect.NewRequest(&rpc.StatusRequest{}))
	kind(t, clientError(call, err), dems.UnknownOutcome)
}

func TestADigestOfAnotherLengthIsRefused(t *testing.T) {
	for _, digest := range [][]byte{{}, make([]byte, 15), make([]byte, 17)} {
		got, err := oddPair(t, older{digest: digest}).StateAt(t.Context(), 1)
		isUnknown(t, err)
		if got != (dems.Digest{}) {
			t.Errorf("%d bytes became %v", len(digest), got)
		}
	}
}

// TestUnknownFieldsAreSkipped shows that fields which a later version adds are nothing that this one chokes on.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	message := marshal(t, encodeStatus(&dems.NodeStatus{ID: "n1", Incarnation: 3}))
	message = append(message, 0xfa, 0x07, 3, 'n', 'e', 'w') // field 127
	decoded := new(rpc.StatusReply)
	if err := proto.Unmarshal(message, decoded); err != nil {
		t.Fatal(err)
	}
	if status, err := decodeStatus("n1", decoded); err != nil || status.Incarnation != 3 {
		t.Errorf("got %+v, %v", status, err)
	}
}

func FuzzReport(f *testing.F) {
	f.Add(marshal(f, &rpc.ReportRequest{
		Kind: 2, Node: "n2", Incarnation: 1, Strikes: 3, Indexes: []uint64{1, 2, 3}, Expected: "booked", Answered: "event_full",
	}))
	f.Add(marshal(f, &rpc.ReportRequest{Kind: 3}))
	f.Add(marshal(f, &rpc.ReportRequest{Kind: 1 << 31, Node: "n2"}))
	f.Add(marshal(f, &rpc.ReportRequest{Kind: 1, Node: "n2", Indexes: make([]uint64, dems.MaxReportIndexes+1)}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		message := new(rpc.ReportRequest)
		if proto.Unmarshal(data, message) != nil {
			return
		}
		report, err := decodeReport(message)
		if err != nil {
			kind(t, err, dems.BadRequest)
			return
		}
		named := report.Node != ""
		if named && !dems.ValidName(string(report.Node)) || !named && report.Kind != dems.NoMajorityReport ||
			report.Kind < dems.WrongAnswerReport || report.Kind > dems.NoMajorityReport || report.Strikes < 0 ||
			len(report.Indexes) > dems.MaxReportIndexes || len(report.Expected)+len(report.Answered) > 2*dems.MaxEvidenceBytes {
			t.Errorf("%+v came through", report)
		}
	})
}
