package transport

import (
	"context"
	"errors"
	"fmt"

	"dems"
	"dems/transport/rpc"

	"connectrpc.com/connect"
)

// Replica is a client of one node. It connects when first used, connects again when the connection broke, and is safe for
// concurrent use. Calls return when their context ends and when the connection breaks. Every error is a
// *dems.ReplicaError, but for those that a Votes callback returned.
type Replica struct {
	endpoint  *Endpoint
	connector *connector
	client    rpc.ReplicaClient
}

var _ Handler = (*Replica)(nil)

func newReplica(endpoint *Endpoint, node dems.NodeID, address func() (string, error)) *Replica {
	r := &Replica{endpoint: endpoint, connector: newConnector(endpoint, protocolRPC, node, address)}
	r.client = rpc.NewReplicaClient(&requester{r.connector}, "https://"+serverName(node),
		connect.WithReadMaxBytes(maxReplyBytes),
		connect.WithAcceptCompression("gzip", nil, nil), // results are short-lived and the network is near
	)
	return r
}

// Close ends the connection; calls in flight and later ones fail.
func (r *Replica) Close() error {
	r.connector.close()
	return nil
}

// Propose implements Handler.
func (r *Replica) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return r.order(ctx, entry, r.client.Propose)
}

// Forward implements Handler.
func (r *Replica) Forward(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return r.order(ctx, entry, r.client.Forward)
}

func (r *Replica) order(
	ctx context.Context, entry []byte, how func(context.Context, *rpc.ProposeRequest) (*rpc.BatchReply, error),
) (dems.BatchReply, error) {
	if err := checkEntry(entry); err != nil {
		return dems.BatchReply{}, err
	}
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := how(ctx, &rpc.ProposeRequest{Entry: entry})
	if err != nil {
		return dems.BatchReply{}, clientError(call, err)
	}
	return decodeBatchReply(call.node, reply)
}

// Query implements Handler.
func (r *Replica) Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
	request, err := encodeQueryBatch(&batch)
	if err != nil {
		return dems.QueryReply{}, err
	}
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.Query(ctx, request)
	if err != nil {
		return dems.QueryReply{}, clientError(call, err)
	}
	return decodeQueryReply(call.node, reply, len(batch.Queries))
}

// Votes implements Handler. It has no timeout of its own: a node that dies is noticed by Config.IdleTimeout.
func (r *Replica) Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, call := withCall(ctx)
	stream, err := r.client.Votes(ctx, &rpc.VotesRequest{Session: session})
	if err != nil {
		return clientError(call, err)
	}
	defer stream.Close()
	for stream.Receive() {
		votes, err := decodeVotes(call.node, stream.Msg())
		if err != nil {
			return err
		}
		if len(votes) == 0 {
			continue
		}
		if err := send(votes); err != nil {
			return err
		}
	}
	err = stream.Err()
	if err == nil {
		err = errors.New("the node ended the stream of votes")
	}
	return clientError(call, err)
}

// Results implements Handler.
func (r *Replica) Results(ctx context.Context, session, batch uint64) (dems.BatchReply, error) {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.Results(ctx, &rpc.ResultsRequest{Session: session, Batch: batch})
	if err != nil {
		return dems.BatchReply{}, clientError(call, err)
	}
	return decodeBatchReply(call.node, reply)
}

// Status implements Handler.
func (r *Replica) Status(ctx context.Context) (dems.NodeStatus, error) {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.Status(ctx, &rpc.StatusRequest{})
	if err != nil {
		return dems.NodeStatus{}, clientError(call, err)
	}
	return decodeStatus(call.node, reply)
}

// ReadIndex implements Handler.
func (r *Replica) ReadIndex(ctx context.Context) (uint64, error) {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.ReadIndex(ctx, &rpc.ReadIndexRequest{})
	if err != nil {
		return 0, clientError(call, err)
	}
	return reply.Index, nil
}

// CityLog implements Handler.
func (r *Replica) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	reply, err := r.client.CityLog(ctx, &rpc.CityLogRequest{
		City: city.String(), First: first, MaxBytes: uint32(min(max(maxBytes, 0), maxPageBytes)),
	})
	if err != nil {
		return dems.CityLogPage{}, clientError(call, err)
	}
	return dems.CityLogPage{First: reply.First, Total: reply.Total, Records: reply.Records}, nil
}

// Transfer implements Handler.
func (r *Replica) Transfer(ctx context.Context, to dems.NodeID) error {
	ctx, call, cancel := r.begin(ctx)
	defer cancel()
	_, err := r.client.Transfer(ctx, &rpc.TransferRequest{To: string(to)})
	if err != nil {
		return clientError(call, err)
	}
	return nil
}

// begin gives a call its deadline and the place where the request notes what it learns.
func (r *Replica) begin(ctx context.Context) (context.Context, *call, context.CancelFunc) {
	cancel := context.CancelFunc(func() {})
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, r.endpoint.config.CallTimeout)
	}
	ctx, call := withCall(ctx)
	return ctx, call, cancel
}

// clientError says what is known after a failed call: NotApplied where the node cannot have got it, what the node said where
// it said something, and otherwise nothing.
func clientError(call *call, err error) error {
	said, ok := errors.AsType[*connect.Error](err)
	if !ok || !connect.IsWireError(err) {
		if ok && said.Unwrap() != nil {
			err = said.Unwrap() // connect's code says nothing that the cause does not
		}
		if !call.sent {
			return &dems.ReplicaError{Kind: dems.NotApplied, Err: err}
		}
		return &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: err}
	}
	for _, detail := range said.Details() {
		if value, err := detail.Value(); err == nil {
			if message, ok := value.(*rpc.ReplicaError); ok {
				return decodeError(message, cause(said))
			}
		}
	}
	// Without the detail it was refused before it reached the handler, or it is not known what happened.
	kind := dems.UnknownOutcome
	switch said.Code() {
	case connect.CodeInvalidArgument, connect.CodeResourceExhausted, connect.CodeUnimplemented:
		kind = dems.BadRequest
	}
	return &dems.ReplicaError{Kind: kind, Err: cause(said)}
}

// cause is what the node said, in a form that the caller recognises where the deadline passed at the node's end first.
func cause(said *connect.Error) error {
	switch {
	case said.Code() == connect.CodeDeadlineExceeded:
		return fmt.Errorf("at the node: %w", context.DeadlineExceeded)
	case said.Message() == "":
		return nil
	}
	return errors.New(said.Message())
}

func badRequest(format string, arguments ...any) error {
	return &dems.ReplicaError{Kind: dems.BadRequest, Err: fmt.Errorf(format, arguments...)}
}
