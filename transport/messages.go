package transport

import (
	"encoding/binary"
	"fmt"

	"dems"
	"dems/transport/rpc"
)

// Between the messages on the wire and the domain. Decoders check what they are given and never panic; what a node sends
// is checked as strictly as what a front end sends, since a node may be wrong.

// malformedReply is a node's answer that cannot be understood: what it did is not known.
func malformedReply(format string, arguments ...any) error {
	return &dems.ReplicaError{Kind: dems.UnknownOutcome,
		Err: fmt.Errorf("malformed reply: %w", fmt.Errorf(format, arguments...))}
}

func checkEntry(entry []byte) error {
	if len(entry) == 0 || len(entry) > dems.MaxEntryBytes {
		return badRequest("an entry has 1 to %d bytes, this one %d", dems.MaxEntryBytes, len(entry))
	}
	return nil
}

func encodeVote(vote *dems.Vote) *rpc.Vote {
	return &rpc.Vote{
		Incarnation: vote.Incarnation, Index: vote.Index, Session: vote.Session, Batch: vote.Batch,
		Results: vote.Results[:], State: vote.State[:],
	}
}

// decodeVote makes a vote of the node that the certificate names.
func decodeVote(node dems.NodeID, message *rpc.Vote) (dems.Vote, error) {
	vote := dems.Vote{
		Node: node, Incarnation: message.GetIncarnation(), Index: message.GetIndex(),
		Session: message.GetSession(), Batch: message.GetBatch(),
	}
	if message == nil || len(message.Results) != len(vote.Results) || len(message.State) != len(vote.State) {
		return dems.Vote{}, malformedReply("a vote without digests of %d bytes", len(vote.Results))
	}
	copy(vote.Results[:], message.Results)
	copy(vote.State[:], message.State)
	return vote, nil
}

func decodeVotes(node dems.NodeID, message *rpc.VotesReply) ([]dems.Vote, error) {
	votes := make([]dems.Vote, len(message.Votes))
	for i := range votes {
		var err error
		if votes[i], err = decodeVote(node, message.Votes[i]); err != nil {
			return nil, err
		}
	}
	return votes, nil
}

func encodeBatchReply(reply *dems.BatchReply) (*rpc.BatchReply, error) {
	if len(reply.Results) > maxReplyBytes-1024 {
		return nil, fmt.Errorf("results of %d bytes are too large to send", len(reply.Results))
	}
	return &rpc.BatchReply{Vote: encodeVote(&reply.Vote), Results: reply.Results}, nil
}

func decodeBatchReply(node dems.NodeID, message *rpc.BatchReply) (dems.BatchReply, error) {
	vote, err := decodeVote(node, message.Vote)
	if err != nil {
		return dems.BatchReply{}, err
	}
	return dems.BatchReply{Vote: vote, Results: message.Results}, nil
}

func encodeQueryBatch(batch *dems.QueryBatch) (*rpc.QueryRequest, error) {
	if len(batch.Queries) == 0 || len(batch.Queries) > dems.MaxQueries {
		return nil, badRequest("a request has 1 to %d queries, this one %d", dems.MaxQueries, len(batch.Queries))
	}
	const usualBytes = 48 // of one query
	queries := make([]byte, 0, len(batch.Queries)*usualBytes)
	for i := range batch.Queries {
		query := &batch.Queries[i]
		log := byte(0)
		if query.Log {
			log = 1
		}
		queries = append(queries, byte(query.Kind), log)
		switch query.Kind {
		case dems.OperationQuery:
			queries = dems.AppendCommand(queries, &query.Command)
		case dems.IncidentsQuery:
			queries = binary.AppendUvarint(queries, query.From)
		}
	}
	return &rpc.QueryRequest{MinIndex: batch.MinIndex, Queries: queries}, nil
}

func decodeQueryBatch(message *rpc.QueryRequest) (dems.QueryBatch, error) {
	batch := dems.QueryBatch{MinIndex: message.MinIndex}
	decoder := dems.NewDecoder(message.Queries)
	for decoder.Rest() > 0 {
		if len(batch.Queries) == dems.MaxQueries {
			return dems.QueryBatch{}, badRequest("more than %d queries", dems.MaxQueries)
		}
		query := dems.Query{Kind: dems.QueryKind(decoder.Byte())}
		log := decoder.Byte()
		query.Log = log == 1
		switch {
		case log > 1:
			return dems.QueryBatch{}, badRequest("query %d: whether to log is 0 or 1", len(batch.Queries))
		case query.Kind == dems.OperationQuery:
			query.Command = dems.DecodeCommand(decoder)
			if query.Command.Op.Mutates() {
				return dems.QueryBatch{}, badRequest("query %d: %s is not a read", len(batch.Queries), query.Command.Op)
			}
		case query.Kind == dems.IncidentsQuery:
			query.From = decoder.Uvarint()
		case query.Kind != dems.RegistryQuery && query.Kind != dems.OperationQuery:
			return dems.QueryBatch{}, badRequest("query %d: unknown kind %d", len(batch.Queries), query.Kind)
		}
		batch.Queries = append(batch.Queries, query)
	}
	if err := decoder.Finish(); err != nil {
		return dems.QueryBatch{}, badRequest("queries: %w", err)
	}
	if len(batch.Queries) == 0 {
		return dems.QueryBatch{}, badRequest("no queries")
	}
	return batch, nil
}

func encodeQueryReply(reply *dems.QueryReply) (*rpc.QueryReply, error) {
	message := &rpc.QueryReply{
		Incarnation: reply.Incarnation,
		Applied:     reply.Applied,
		Versions:    make([]uint64, len(reply.Answers)),
		Sizes:       make([]uint32, len(reply.Answers)),
	}
	total := 0
	for i := range reply.Answers {
		total += len(reply.Answers[i].Result)
	}
	if total > maxReplyBytes-16*dems.MaxQueries {
		return nil, badRequest("the answers have %d bytes together, too many to send: ask fewer queries at once", total)
	}
	message.Results = make([]byte, 0, total)
	for i := range reply.Answers {
		message.Versions[i] = reply.Answers[i].Version
		message.Sizes[i] = uint32(len(reply.Answers[i].Result))
		message.Results = append(message.Results, reply.Answers[i].Result...)
	}
	return message, nil
}

// decodeQueryReply makes the reply to a request with that many queries. Its answers share the message's memory.
func decodeQueryReply(node dems.NodeID, message *rpc.QueryReply, queries int) (dems.QueryReply, error) {
	if len(message.Versions) != queries || len(message.Sizes) != queries {
		return dems.QueryReply{}, malformedReply("%d versions and %d sizes for %d queries",
			len(message.Versions), len(message.Sizes), queries)
	}
	reply := dems.QueryReply{
		Node: node, Incarnation: message.Incarnation, Applied: message.Applied, Answers: make([]dems.Answer, queries),
	}
	rest := message.Results
	for i, size := range message.Sizes {
		if uint64(size) > uint64(len(rest)) {
			return dems.QueryReply{}, malformedReply("sizes beyond the results")
		}
		reply.Answers[i] = dems.Answer{Version: message.Versions[i], Result: rest[:size:size]}
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return dems.QueryReply{}, malformedReply("results beyond the sizes")
	}
	return reply, nil
}

func encodeStatus(status *dems.NodeStatus) *rpc.StatusReply {
	message := &rpc.StatusReply{
		Incarnation: status.Incarnation, Address: status.Address, Version: status.Version, Fresh: status.Fresh,
		Ready: status.Ready, Leader: string(status.Leader), Term: status.Term, Applied: status.Applied,
		Digest: status.Digest[:], Configuration: status.Configuration, OriginIndex: status.Origin.Index,
	}
	if status.Origin != (dems.Origin{}) {
		message.OriginDigest = status.Origin.Digest[:]
	}
	for _, member := range status.Members {
		message.Members = append(message.Members, &rpc.Member{
			Id: string(member.ID), Incarnation: member.Incarnation, Address: member.Address, Suffrage: string(member.Suffrage),
		})
	}
	for _, standing := range status.Standings {
		message.Standings = append(message.Standings, &rpc.Standing{
			Node: string(standing.Node), Incarnation: standing.Incarnation, Condition: uint32(standing.Condition),
			Since: standing.Since, ByHand: standing.ByHand,
		})
	}
	return message
}

func decodeStatus(node dems.NodeID, message *rpc.StatusReply) (dems.NodeStatus, error) {
	status := dems.NodeStatus{
		ID: node, Incarnation: message.Incarnation, Address: message.Address, Version: message.Version,
		Fresh: message.Fresh, Ready: message.Ready, Leader: dems.NodeID(message.Leader), Term: message.Term,
		Applied: message.Applied, Configuration: message.Configuration, Origin: dems.Origin{Index: message.OriginIndex},
	}
	if len(message.OriginDigest) != 0 && len(message.OriginDigest) != len(status.Origin.Digest) {
		return dems.NodeStatus{}, malformedReply("a status with an origin of %d bytes", len(message.OriginDigest))
	}
	copy(status.Origin.Digest[:], message.OriginDigest)
	if len(message.Digest) != len(status.Digest) || len(message.Members) > dems.MaxRegistrations ||
		len(message.Standings) > dems.MaxRegistrations ||
		len(message.Address) > dems.MaxNameBytes || len(message.Version) > dems.MaxNameBytes {
		return dems.NodeStatus{}, malformedReply("a status with a wrong digest or too long")
	}
	if message.Leader != "" && !dems.ValidName(message.Leader) {
		return dems.NodeStatus{}, malformedReply("leader %q", message.Leader)
	}
	copy(status.Digest[:], message.Digest)
	for _, member := range message.Members {
		suffrage := dems.Suffrage(member.GetSuffrage())
		known := suffrage == dems.Voter || suffrage == dems.Nonvoter || suffrage == dems.None
		if !known || !dems.ValidName(member.GetId()) || len(member.GetAddress()) > dems.MaxNameBytes {
			return dems.NodeStatus{}, malformedReply("member %q with suffrage %q", member.GetId(), suffrage)
		}
		status.Members = append(status.Members, dems.Member{
			ID: dems.NodeID(member.GetId()), Incarnation: member.GetIncarnation(), Address: member.GetAddress(), Suffrage: suffrage,
		})
	}
	for _, standing := range message.Standings {
		if !dems.ValidName(standing.GetNode()) || standing.GetCondition() > uint32(dems.Quarantined) {
			return dems.NodeStatus{}, malformedReply("standing of %.64q with condition %d", standing.GetNode(), standing.GetCondition())
		}
		status.Standings = append(status.Standings, dems.Standing{
			Node: dems.NodeID(standing.Node), Incarnation: standing.Incarnation,
			Condition: dems.Condition(standing.Condition), Since: standing.Since, ByHand: standing.ByHand,
		})
	}
	return status, nil
}

// errorKinds pairs the kinds of error with their numbers on the wire.
var errorKinds = [...]struct {
	kind dems.ReplicaErrorKind
	wire rpc.ErrorKind
}{
	{dems.UnknownOutcome, rpc.ErrorKind_ERROR_KIND_UNKNOWN_OUTCOME},
	{dems.NotLeader, rpc.ErrorKind_ERROR_KIND_NOT_LEADER},
	{dems.NotApplied, rpc.ErrorKind_ERROR_KIND_NOT_APPLIED},
	{dems.BadRequest, rpc.ErrorKind_ERROR_KIND_BAD_REQUEST},
	{dems.NotReady, rpc.ErrorKind_ERROR_KIND_NOT_READY},
}

func encodeErrorKind(kind dems.ReplicaErrorKind) rpc.ErrorKind {
	for _, pair := range errorKinds {
		if pair.kind == kind {
			return pair.wire
		}
	}
	return rpc.ErrorKind_ERROR_KIND_UNKNOWN_OUTCOME
}

// decodeError makes the error that a node sent. A kind that this version does not know is UnknownOutcome.
func decodeError(message *rpc.ReplicaError, cause error) error {
	decoded := &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: cause}
	for _, pair := range errorKinds {
		if pair.wire == message.GetKind() {
			decoded.Kind = pair.kind
		}
	}
	if decoded.Kind == dems.NotLeader && dems.ValidName(message.GetLeader()) {
		decoded.Leader = dems.NodeID(message.GetLeader())
	}
	return decoded
}
