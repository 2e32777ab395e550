package transport

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"dems"
	"dems/transport/rpc"

	"google.golang.org/protobuf/proto"
)

func marshal(t testing.TB, message proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// isUnknown asserts that a node's nonsense is an unknown outcome.
func isUnknown(t *testing.T, err error) {
	t.Helper()
	if failure, ok := errors.AsType[*dems.ReplicaError](err); !ok || failure.Kind != dems.UnknownOutcome {
		t.Errorf("got %v, want an unknown outcome", err)
	}
}

func FuzzVote(f *testing.F) {
	vote := dems.Vote{Node: "n1", Incarnation: 1, Index: 2, Session: 1<<64 - 1, Batch: 4, Results: dems.Digest{5}, State: dems.Digest{6}}
	f.Add(marshal(f, encodeVote(&vote)))
	f.Add([]byte{})
	f.Add(marshal(f, &rpc.Vote{Results: make([]byte, 16), State: make([]byte, 15)}))
	f.Add(marshal(f, &rpc.Vote{Results: make([]byte, 17), State: make([]byte, 16)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		message := new(rpc.Vote)
		if proto.Unmarshal(data, message) != nil {
			return
		}
		decoded, err := decodeVote("n7", message)
		if err != nil {
			isUnknown(t, err)
			return
		}
		again, err := decodeVote("n7", encodeVote(&decoded))
		if err != nil || again != decoded || decoded.Node != "n7" {
			t.Errorf("%+v became %+v, %v", decoded, again, err)
		}
	})
}

func FuzzQueryBatch(f *testing.F) {
	batch := dems.QueryBatch{MinIndex: 7, Queries: []dems.Query{scheduleQuery(), {Kind: dems.RegistryQuery, Log: true},
		{Kind: dems.IncidentsQuery}, {Kind: dems.IncidentsQuery, From: 1<<64 - 1}}}
	message, err := encodeQueryBatch(&batch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, message))
	f.Add([]byte{})
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte{1}}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte{2, 2}}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte{3, 0}}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte{3, 0, 0x80}}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte{3, 1, 0x80, 0}}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte{4, 0}}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: append([]byte{1, 0}, dems.AppendCommand(nil, &dems.Command{Op: dems.BookEvent})...)}))
	f.Add(marshal(f, &rpc.QueryRequest{Queries: []byte(strings.Repeat("\x02\x00", dems.MaxQueries+1))}))
	f.Fuzz(func(t *testing.T, data []byte) {
		message := new(rpc.QueryRequest)
		if proto.Unmarshal(data, message) != nil {
			return
		}
		decoded, err := decodeQueryBatch(message)
		if err != nil {
			if failure, ok := errors.AsType[*dems.ReplicaError](err); !ok || failure.Kind != dems.BadRequest {
				t.Errorf("got %v, want a bad request", err)
			}
			return
		}
		if len(decoded.Queries) == 0 || len(decoded.Queries) > dems.MaxQueries {
			t.Fatalf("%d queries", len(decoded.Queries))
		}
		for _, query := range decoded.Queries {
			if query.Command.Op.Mutates() {
				t.Fatalf("%v came through as a read", query.Command.Op)
			}
		}
		encoded, err := encodeQueryBatch(&decoded)
		if err != nil || string(encoded.Queries) != string(message.Queries) || encoded.MinIndex != message.MinIndex {
			t.Errorf("%x became %x, %v", message.Queries, encoded.Queries, err)
		}
	})
}

func FuzzQueryReply(f *testing.F) {
	f.Add(marshal(f, &rpc.QueryReply{Applied: 1, Versions: []uint64{2, 3}, Sizes: []uint32{1, 2}, Results: []byte("abc")}), 2)
	f.Add(marshal(f, &rpc.QueryReply{Versions: []uint64{1}, Sizes: []uint32{1 << 31}}), 1)
	f.Add(marshal(f, &rpc.QueryReply{Incarnation: 1<<64 - 1}), 0)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, data []byte, queries int) {
		message := new(rpc.QueryReply)
		if proto.Unmarshal(data, message) != nil || queries < 0 || queries > dems.MaxQueries {
			return
		}
		reply, err := decodeQueryReply("n1", message, queries)
		if err != nil {
			isUnknown(t, err)
			return
		}
		results := []byte{}
		for _, answer := range reply.Answers {
			results = append(results, answer.Result...)
		}
		if len(reply.Answers) != queries || string(results) != string(message.Results) {
			t.Errorf("%d answers to %d queries, %x of %x", len(reply.Answers), queries, results, message.Results)
		}
	})
}

func FuzzStatus(f *testing.F) {
	status := dems.NodeStatus{ID: "n1", Leader: "n2", Members: []dems.Member{{ID: "n1", Address: "a:1", Suffrage: dems.Voter}}}
	f.Add(marshal(f, encodeStatus(&status)))
	status.Members[0].Incarnation = 1<<64 - 1
	status.Standings = []dems.Standing{{Node: "n1", Incarnation: 2, Condition: dems.Quarantined, Since: 1 << 50}, {Node: "n2"}}
	f.Add(marshal(f, encodeStatus(&status)))
	f.Add(marshal(f, &rpc.StatusReply{Digest: make([]byte, 16), Standings: []*rpc.Standing{{Node: "n1", Condition: 256}}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		message := new(rpc.StatusReply)
		if proto.Unmarshal(data, message) != nil {
			return
		}
		decoded, err := decodeStatus("n7", message)
		if err != nil {
			isUnknown(t, err)
			return
		}
		again, err := decodeStatus("n7", encodeStatus(&decoded))
		if err != nil || !reflect.DeepEqual(again, decoded) {
			t.Errorf("%+v became %+v, %v", decoded, again, err)
		}
	})
}

func TestNonsenseOfANodeIsRefused(t *testing.T) {
	vote := &rpc.Vote{Results: make([]byte, 16), State: make([]byte, 16)}
	digest := make([]byte, 16)
	long := strings.Repeat("x", dems.MaxNameBytes+1)
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s came through", what)
			return
		}
		isUnknown(t, err)
	}
	_, err := decodeBatchReply("n1", &rpc.BatchReply{})
	refused("a reply without a vote", err)
	_, err = decodeVotes("n1", &rpc.VotesReply{Votes: []*rpc.Vote{vote, {}}})
	refused("a vote without digests", err)
	for what, message := range map[string]*rpc.QueryReply{
		"too few answers":      {},
		"no sizes":             {Versions: []uint64{1, 2}},
		"too many answers":     {Versions: []uint64{1, 2, 3}, Sizes: []uint32{0, 0, 0}},
		"sizes beyond results": {Versions: []uint64{1, 2}, Sizes: []uint32{1, 1}, Results: []byte("a")},
		"results beyond sizes": {Versions: []uint64{1, 2}, Sizes: []uint32{1, 1}, Results: []byte("abc")},
	} {
		_, err := decodeQueryReply("n1", message, 2)
		refused(what, err)
	}
	for what, message := range map[string]*rpc.StatusReply{
		"no digest":         {},
		"a long address":    {Digest: digest, Address: long},
		"a long version":    {Digest: digest, Version: long},
		"a bad leader":      {Digest: digest, Leader: "N1"},
		"a bad member":      {Digest: digest, Members: []*rpc.Member{{Id: "", Suffrage: "voter"}}},
		"a bad suffrage":    {Digest: digest, Members: []*rpc.Member{{Id: "n1", Suffrage: "king"}}},
		"a long member":     {Digest: digest, Members: []*rpc.Member{{Id: "n1", Suffrage: "voter", Address: long}}},
		"a nil member":      {Digest: digest, Members: []*rpc.Member{nil}},
		"too many members":  {Digest: digest, Members: make([]*rpc.Member, dems.MaxRegistrations+1)},
		"too long a digest": {Digest: append(digest, 0)},
		"a bad standing":    {Digest: digest, Standings: []*rpc.Standing{{Node: "N1"}}},
		"a nil standing":    {Digest: digest, Standings: []*rpc.Standing{nil}},
		"a bad condition":   {Digest: digest, Standings: []*rpc.Standing{{Node: "n1", Condition: uint32(dems.Quarantined) + 1}}},
		"condition 256":     {Digest: digest, Standings: []*rpc.Standing{{Node: "n1", Condition: 256}}},
		"a crowd":           {Digest: digest, Standings: make([]*rpc.Standing, dems.MaxRegistrations+1)},
	} {
		_, err := decodeStatus("n1", message)
		refused(what, err)
	}
}

func TestAnUnknownKindOfErrorIsAnUnknownOutcome(t *testing.T) {
	err := decodeError(&rpc.ReplicaError{Kind: 99, Leader: "n1"}, nil)
	if failure, ok := errors.AsType[*dems.ReplicaError](err); !ok || failure.Kind != dems.UnknownOutcome || failure.Leader != "" {
		t.Errorf("got %v", err)
	}
	for kind := range dems.ReplicaErrorKind(len(errorKinds)) {
		err := decodeError(&rpc.ReplicaError{Kind: encodeErrorKind(kind)}, nil)
		if failure, ok := errors.AsType[*dems.ReplicaError](err); !ok || failure.Kind != kind {
			t.Errorf("kind %d became %v", kind, err)
		}
	}
}
