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

	"connectrpc.com/connect"
)

// kind asserts that an error is a *dems.ReplicaError of a kind and returns it.
func kind(t *testing.T, err error, want dems.ReplicaErrorKind) *dems.ReplicaError {
	t.Helper()
	got, ok := errors.AsType[*dems.ReplicaError](err)
	if !ok || got.Kind != want {
		t.Fatalf("got %v, want kind %d", err, want)
	}
	return got
}

func TestEveryMethodCrosses(t *testing.T) {
	vote := dems.Vote{
		Node: "n3", Incarnation: 2, Index: 1 << 60, Session: 1<<64 - 1, Batch: 5,
		Results: dems.Digest{1, 2, 3}, State: dems.Digest{15: 9},
	}
	fromN1 := vote
	fromN1.Node = "n1" // whatever it says: the certificate is n1's
	status := dems.NodeStatus{
		ID: "n3", Incarnation: 3, Address: "host:7000", Version: "v1", Fresh: true, Ready: true, Leader: "n2", Term: 4,
		Applied: 5, Digest: dems.Digest{7}, Configuration: 6,
		Members: []dems.Member{{ID: "n1", Address: "a:1", Suffrage: dems.Voter}, {ID: "n2", Address: "b:2", Suffrage: dems.Nonvoter}},
		Origin:  dems.Origin{Index: 9, Digest: dems.Digest{15: 8}},
	}
	queries := dems.QueryBatch{MinIndex: 9, Queries: []dems.Query{
		scheduleQuery(), {Kind: dems.RegistryQuery, Log: true}, scheduleQuery(),
	}}
	queries.Queries[2].Log = true
	answers := dems.QueryReply{Node: "n3", Applied: 11, Answers: []dems.Answer{
		{Version: 1, Result: []byte("one")}, {Version: 2, Result: []byte{}}, {Version: 1 << 50, Result: []byte("three")},
	}}
	toronto := dems.City{'T', 'O', 'R'}
	page := dems.CityLogPage{First: 3, Total: 10, Records: []byte("{}\n{}\n")}
	_, replica := pair(t, &stub{
		propose: func(_ context.Context, entry []byte) (dems.BatchReply, error) {
			return dems.BatchReply{Vote: vote, Results: append(entry, '!')}, nil
		},
		forward: func(_ context.Context, entry []byte) (dems.BatchReply, error) {
			return dems.BatchReply{Vote: vote, Results: append(entry, '>')}, nil
		},
		query: func(_ context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
			if !reflect.DeepEqual(batch, queries) {
				return dems.QueryReply{}, fmt.Errorf("got %+v", batch)
			}
			return answers, nil
		},
		results: func(_ context.Context, session, batch uint64) (dems.BatchReply, error) {
			return dems.BatchReply{Vote: vote, Results: fmt.Append(nil, session, batch)}, nil
		},
		status:    func(context.Context) (dems.NodeStatus, error) { return status, nil },
		readIndex: func(context.Context) (uint64, error) { return 1<<64 - 1, nil },
		cityLog: func(_ context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
			if city != toronto || first != 3 || maxBytes != 1000 {
				return dems.CityLogPage{}, fmt.Errorf("got %v, %d, %d", city, first, maxBytes)
			}
			return page, nil
		},
		transfer: func(_ context.Context, to dems.NodeID) error { return errors.New("to " + string(to)) },
	})
	ctx := t.Context()
	equal := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", what, got, err, want)
		}
	}
	batch, err := replica.Propose(ctx, []byte("entry"))
	equal("Propose", batch, dems.BatchReply{Vote: fromN1, Results: []byte("entry!")}, err)
	batch, err = replica.Results(ctx, 1<<63, 4)
	equal("Results", batch, dems.BatchReply{Vote: fromN1, Results: fmt.Append(nil, uint64(1)<<63, 4)}, err)
	batch, err = replica.Forward(ctx, []byte("entry"))
	equal("Forward", batch, dems.BatchReply{Vote: fromN1, Results: []byte("entry>")}, err)
	reply, err := replica.Query(ctx, queries)
	wantAnswers, wantStatus := answers, status
	wantAnswers.Node, wantStatus.ID = "n1", "n1"
	equal("Query", reply, wantAnswers, err)
	gotStatus, err := replica.Status(ctx)
	equal("Status", gotStatus, wantStatus, err)
	index, err := replica.ReadIndex(ctx)
	equal("ReadIndex", index, uint64(1<<64-1), err)
	gotPage, err := replica.CityLog(ctx, toronto, 3, 1000)
	equal("CityLog", gotPage, page, err)
	if got := kind(t, replica.Transfer(ctx, "n2"), dems.UnknownOutcome); got.Err.Error() != "to n2" {
		t.Errorf("Transfer: %v", got)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	answers := make(chan error, 1)
	_, replica := pair(t, &stub{readIndex: func(context.Context) (uint64, error) { return 7, <-answers }})
	for _, test := range []struct {
		answer error
		kind   dems.ReplicaErrorKind
		leader dems.NodeID
		text   string
	}{
		{&dems.ReplicaError{Kind: dems.NotLeader, Leader: "n2"}, dems.NotLeader, "n2", ""},
		{&dems.ReplicaError{Kind: dems.NotLeader, Err: errors.New("election")}, dems.NotLeader, "", "election"},
		{&dems.ReplicaError{Kind: dems.NotLeader, Leader: "not/a name"}, dems.NotLeader, "", ""},
		{&dems.ReplicaError{Kind: dems.NotApplied, Err: errors.New("queue full")}, dems.NotApplied, "", "queue full"},
		{&dems.ReplicaError{Kind: dems.BadRequest, Err: errors.New("é\n%")}, dems.BadRequest, "", "é\n%"},
		{&dems.ReplicaError{Kind: dems.NotReady}, dems.NotReady, "", ""},
		{&dems.ReplicaError{Kind: dems.UnknownOutcome, Leader: "n2"}, dems.UnknownOutcome, "", ""},
		{&dems.ReplicaError{Kind: 200}, dems.UnknownOutcome, "", ""},
		{fmt.Errorf("wrapped: %w", &dems.ReplicaError{Kind: dems.NotReady}), dems.NotReady, "", ""},
		{errors.New("anything else"), dems.UnknownOutcome, "", "anything else"},
		{context.Canceled, dems.UnknownOutcome, "", "context canceled"},
	} {
		answers <- test.answer
		index, err := replica.ReadIndex(t.Context())
		got := kind(t, err, test.kind)
		text := ""
		if got.Err != nil {
			text = got.Err.Error()
		}
		if index != 0 || got.Leader != test.leader || text != test.text {
			t.Errorf("%v arrived as %d, %v with leader %q and text %q", test.answer, index, got, got.Leader, text)
		}
	}
}

func TestBeforeServeNothingIsReady(t *testing.T) {
	node := start(t, "n1", Config{})
	replica := start(t, "fe1", Config{}).Replica(node.Addr().String())
	calls := map[string]func() error{
		"Propose": func() error { _, err := replica.Propose(t.Context(), []byte("x")); return err },
		"Forward": func() error { _, err := replica.Forward(t.Context(), []byte("x")); return err },
		"Query": func() error {
			_, err := replica.Query(t.Context(), dems.QueryBatch{Queries: []dems.Query{scheduleQuery()}})
			return err
		},
		"Votes":     func() error { return replica.Votes(t.Context(), 1, func([]dems.Vote) error { return nil }) },
		"Results":   func() error { _, err := replica.Results(t.Context(), 1, 1); return err },
		"Status":    func() error { _, err := replica.Status(t.Context()); return err },
		"ReadIndex": func() error { _, err := replica.ReadIndex(t.Context()); return err },
		"CityLog":   func() error { _, err := replica.CityLog(t.Context(), dems.City{'T', 'O', 'R'}, 0, 1); return err },
		"Transfer":  func() error { return replica.Transfer(t.Context(), "") },
		"Backup":    func() error { return replica.Backup(t.Context(), 0, func(dems.BackupPart) error { return nil }) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) { kind(t, call(), dems.NotReady) })
	}
	node.Serve(&stub{propose: echo})
	if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
		t.Errorf("after Serve: %v", err)
	}
}

func TestWhatIsTooLargeIsRefused(t *testing.T) {
	_, replica := pair(t, &stub{
		propose: func(_ context.Context, entry []byte) (dems.BatchReply, error) {
			return dems.BatchReply{Results: make([]byte, len(entry))}, nil
		},
		query: func(context.Context, dems.QueryBatch) (dems.QueryReply, error) {
			return dems.QueryReply{Answers: []dems.Answer{{Result: make([]byte, maxReplyBytes)}}}, nil
		},
		results: func(context.Context, uint64, uint64) (dems.BatchReply, error) {
			return dems.BatchReply{Results: make([]byte, maxReplyBytes)}, nil
		},
		cityLog: func(_ context.Context, _ dems.City, _ uint64, maxBytes int) (dems.CityLogPage, error) {
			return dems.CityLogPage{Records: make([]byte, min(maxBytes, 100)), Total: uint64(maxBytes)}, nil
		},
	})
	ctx := t.Context()
	if reply, err := replica.Propose(ctx, make([]byte, dems.MaxEntryBytes)); err != nil || len(reply.Results) != dems.MaxEntryBytes {
		t.Errorf("the largest entry: %v", err)
	}
	_, err := replica.Propose(ctx, make([]byte, dems.MaxEntryBytes+1))
	kind(t, err, dems.BadRequest)
	_, err = replica.Propose(ctx, nil)
	kind(t, err, dems.BadRequest)
	_, err = replica.Forward(ctx, make([]byte, dems.MaxEntryBytes+1))
	kind(t, err, dems.BadRequest)
	_, err = replica.Query(ctx, dems.QueryBatch{})
	kind(t, err, dems.BadRequest)
	_, err = replica.Query(ctx, dems.QueryBatch{Queries: make([]dems.Query, dems.MaxQueries+1)})
	kind(t, err, dems.BadRequest)
	_, err = replica.Query(ctx, dems.QueryBatch{Queries: []dems.Query{scheduleQuery()}})
	if got := kind(t, err, dems.BadRequest); !strings.Contains(got.Error(), "too many to send") {
		t.Errorf("answers that are too large: %v", got)
	}
	_, err = replica.Results(ctx, 1, 1)
	if got := kind(t, err, dems.UnknownOutcome); !strings.Contains(got.Error(), "too large") {
		t.Errorf("results that are too large: %v", got)
	}
	for asked, got := range map[int]uint64{-1: 0, 0: 0, 50: 50, maxPageBytes + 1: maxPageBytes} {
		if page, err := replica.CityLog(ctx, dems.City{'T', 'O', 'R'}, 0, asked); err != nil || page.Total != got {
			t.Errorf("a page of %d bytes: asked the node for %d, %v", asked, page.Total, err)
		}
	}
	_, err = replica.CityLog(ctx, dems.City{}, 0, 1)
	kind(t, err, dems.BadRequest)
	kind(t, replica.Transfer(ctx, "no/name"), dems.BadRequest)
}

func TestAnswersThatDoNotFitTheQueriesAreRefused(t *testing.T) {
	_, replica := pair(t, &stub{query: func(context.Context, dems.QueryBatch) (dems.QueryReply, error) {
		return dems.QueryReply{Answers: make([]dems.Answer, 2)}, nil
	}})
	_, err := replica.Query(t.Context(), dems.QueryBatch{Queries: []dems.Query{scheduleQuery()}})
	if got := kind(t, err, dems.UnknownOutcome); !strings.Contains(got.Error(), "2 answers to 1 queries") {
		t.Error(got)
	}
}

func TestAPanicIsAnError(t *testing.T) {
	_, replica := pair(t, &stub{
		propose: echo,
		votes: func(_ context.Context, _ uint64, send func([]dems.Vote) error) error {
			send(make([]dems.Vote, 1))
			panic("votes")
		},
	}) // every other method is nil and panics
	_, err := replica.ReadIndex(t.Context())
	kind(t, err, dems.UnknownOutcome)
	if strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("the node's inside leaks: %v", err)
	}
	kind(t, replica.Votes(t.Context(), 1, func([]dems.Vote) error { return nil }), dems.UnknownOutcome)
	if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
		t.Errorf("after panics: %v", err)
	}
}

func TestContexts(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		entered, left := make(chan struct{}, 1), make(chan error, 1)
		lab.start("n1", Config{}).Serve(&stub{propose: func(ctx context.Context, _ []byte) (dems.BatchReply, error) {
			entered <- struct{}{}
			<-ctx.Done()
			left <- ctx.Err()
			return dems.BatchReply{}, ctx.Err()
		}})
		replica := lab.start("fe1", Config{CallTimeout: 3 * time.Second}).Replica("n1")
		// propose calls, and expects that the call and the handler end at once when the timeout says so.
		propose := func(ctx context.Context, timeout time.Duration, want error) {
			t.Helper()
			begin := time.Now()
			_, err := replica.Propose(ctx, []byte("x"))
			if got := kind(t, err, dems.UnknownOutcome); !errors.Is(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if took := time.Since(begin); took > timeout || took < timeout-time.Millisecond {
				t.Errorf("took %v, want %v", took, timeout)
			}
			<-entered
			if err := <-left; !errors.Is(err, want) {
				t.Errorf("the handler saw %v, want %v", err, want)
			}
		}
		propose(context.Background(), 3*time.Second, context.DeadlineExceeded)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		propose(ctx, 20*time.Millisecond, context.DeadlineExceeded)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		time.AfterFunc(time.Second, cancel)
		propose(ctx, time.Second, context.Canceled)
		_, err := replica.Propose(ctx, []byte("x"))
		if got := kind(t, err, dems.NotApplied); !errors.Is(got, context.Canceled) {
			t.Errorf("a context that was over: %v", got)
		}
	})
}

func TestManyCallsAtOnce(t *testing.T) {
	node := start(t, "n1", Config{})
	node.Serve(&stub{propose: echo})
	frontEnd := start(t, "fe1", Config{})
	replicas := []*Replica{frontEnd.Replica(node.Addr().String()), frontEnd.Replica(node.Addr().String())}
	var group sync.WaitGroup
	for caller := range 2 * maxStreams { // more than the node takes at once
		group.Go(func() {
			for i := range 2 {
				entry := bytes.Repeat([]byte{byte(caller), byte(i)}, 1+caller*i)
				reply, err := replicas[caller%2].Propose(t.Context(), entry)
				if err != nil || !bytes.Equal(reply.Results, entry) {
					t.Errorf("caller %d: wrong answer, %v", caller, err)
				}
			}
		})
	}
	group.Wait()
}

func TestWhatWasNotSentIsNotApplied(t *testing.T) {
	propose := func(replica *Replica) error {
		_, err := replica.Propose(context.Background(), []byte("x"))
		return err
	}
	t.Run("nobody answers", func(t *testing.T) {
		inLab(t, func(t *testing.T, lab *lab) {
			frontEnd := lab.start("fe1", Config{DialTimeout: 2 * time.Second})
			begin := time.Now()
			got := kind(t, propose(frontEnd.Replica("n1")), dems.NotApplied)
			if got.Error() != "replica: not applied: connect to n1: no answer within 2s" {
				t.Errorf("got %q", got)
			}
			kind(t, frontEnd.Replica("n1").Votes(t.Context(), 1, nil), dems.NotApplied)
			if took := time.Since(begin); took != 4*time.Second {
				t.Errorf("took %v, want the dial timeout twice", took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := frontEnd.Replica("n1").Propose(ctx, []byte("x"))
			if got := kind(t, err, dems.NotApplied); !errors.Is(got, context.DeadlineExceeded) {
				t.Errorf("got %v", got)
			}
		})
	})
	node := start(t, "n1", Config{})
	node.Serve(&stub{propose: echo})
	frontEnd := start(t, "fe1", Config{})
	for name, replica := range map[string]*Replica{
		"no port":      frontEnd.Replica("127.0.0.1"),
		"bad port":     frontEnd.Replica("127.0.0.1:http"),
		"bad address":  frontEnd.Replica("127.0.0.1.1:7000"),
		"unknown node": frontEnd.Peer("n2"),
	} {
		t.Run(name, func(t *testing.T) { kind(t, propose(replica), dems.NotApplied) })
	}
	t.Run("closed replica", func(t *testing.T) {
		replica := frontEnd.Replica(node.Addr().String())
		if err := propose(replica); err != nil {
			t.Fatal(err)
		}
		replica.Close()
		kind(t, propose(replica), dems.NotApplied)
	})
	t.Run("closed endpoint", func(t *testing.T) {
		replica := frontEnd.Replica(node.Addr().String())
		frontEnd.Close()
		kind(t, propose(replica), dems.NotApplied)
	})
}

func TestPeerIsPinned(t *testing.T) {
	n1 := start(t, "n1", Config{})
	n1.Serve(&stub{propose: echo})
	address := n1.Addr().String()
	n2 := start(t, "n2", Config{Resolve: func(dems.NodeID) (string, bool) { return address, true }})
	if _, err := n2.Peer("n1").Propose(t.Context(), []byte("x")); err != nil {
		t.Errorf("n1 as n1: %v", err)
	}
	_, err := n2.Peer("n3").Propose(t.Context(), []byte("x"))
	if got := kind(t, err, dems.NotApplied); !strings.Contains(got.Error(), "n3.node.dems.internal") {
		t.Errorf("n1 as n3: %v", got)
	}
}

func TestErrorsWithoutADetail(t *testing.T) {
	text := errors.New("text")
	for _, test := range []struct {
		err  error
		sent bool
		want dems.ReplicaErrorKind
	}{
		{connect.NewWireError(connect.CodeInvalidArgument, text), true, dems.BadRequest},
		{connect.NewWireError(connect.CodeResourceExhausted, text), true, dems.BadRequest},
		{connect.NewWireError(connect.CodeUnimplemented, text), true, dems.BadRequest},
		{connect.NewWireError(connect.CodeInternal, text), true, dems.UnknownOutcome},
		{connect.NewWireError(connect.CodeUnavailable, nil), true, dems.UnknownOutcome},
		// These are this side's own: they say nothing about the node.
		{connect.NewError(connect.CodeInvalidArgument, text), true, dems.UnknownOutcome},
		{connect.NewError(connect.CodeResourceExhausted, text), true, dems.UnknownOutcome},
		{text, true, dems.UnknownOutcome},
		{connect.NewError(connect.CodeUnavailable, text), false, dems.NotApplied},
		{text, false, dems.NotApplied},
	} {
		got := kind(t, clientError(&call{sent: test.sent}, test.err), test.want)
		if got.Err != nil && got.Err.Error() != "text" {
			t.Errorf("%v became %v", test.err, got.Err)
		}
	}
}
