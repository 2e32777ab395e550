package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"dems"
	"dems/transport/rpc"

	"connectrpc.com/connect"
)

// service answers RPCs by the endpoint's handler. It implements rpc.ReplicaHandler.
type service struct{ endpoint *Endpoint }

var _ rpc.ReplicaHandler = service{}

// newServiceHandler returns the HTTP handler of the endpoint: the service and nothing else.
func newServiceHandler(endpoint *Endpoint) http.Handler {
	_, handler := rpc.NewReplicaHandler(service{endpoint},
		connect.WithReadMaxBytes(maxRequestBytes),
		connect.WithCompression("gzip", nil, nil), // results are short-lived and the network is near
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, cause any) error {
			endpoint.config.Logger.Error("panic in an RPC", slog.String("procedure", spec.Procedure),
				slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
			return serverError(errors.New("the node failed inside; its log tells where"))
		}),
	)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Of what connect can do only its own protocol with binary protobuf is in use.
		switch r.Header.Get("Content-Type") {
		case "application/proto", "application/connect+proto":
		default:
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		w.Header()["Date"] = nil // nobody reads it
		switch r.URL.Path {
		case rpc.ReplicaVotesProcedure, rpc.ReplicaBackupProcedure:
			r = r.WithContext(context.WithValue(r.Context(), writerKey{}, http.NewResponseController(w)))
		}
		handler.ServeHTTP(w, r)
	})
}

// handler returns the node behind the service.
func (s service) handler() (Handler, error) {
	handler := s.endpoint.handler.Load()
	if handler == nil {
		return nil, serverError(&dems.ReplicaError{Kind: dems.NotReady, Err: errors.New("the node is starting")})
	}
	return *handler, nil
}

// Propose implements rpc.ReplicaHandler.
func (s service) Propose(ctx context.Context, request *rpc.ProposeRequest) (*rpc.BatchReply, error) {
	return s.order(ctx, request, Handler.Propose)
}

// Forward implements rpc.ReplicaHandler.
func (s service) Forward(ctx context.Context, request *rpc.ProposeRequest) (*rpc.BatchReply, error) {
	return s.order(ctx, request, Handler.Forward)
}

func (s service) order(
	ctx context.Context, request *rpc.ProposeRequest, how func(Handler, context.Context, []byte) (dems.BatchReply, error),
) (*rpc.BatchReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	if err := checkEntry(request.Entry); err != nil {
		return nil, serverError(err)
	}
	reply, err := how(handler, ctx, request.Entry)
	return answerBatch(&reply, err)
}

// Query implements rpc.ReplicaHandler.
func (s service) Query(ctx context.Context, request *rpc.QueryRequest) (*rpc.QueryReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	batch, err := decodeQueryBatch(request)
	if err != nil {
		return nil, serverError(err)
	}
	reply, err := handler.Query(ctx, batch)
	if err != nil {
		return nil, serverError(err)
	}
	if len(reply.Answers) != len(batch.Queries) {
		return nil, serverError(fmt.Errorf("%d answers to %d queries", len(reply.Answers), len(batch.Queries)))
	}
	message, err := encodeQueryReply(&reply)
	if err != nil {
		return nil, serverError(err)
	}
	return message, nil
}

// Votes implements rpc.ReplicaHandler.
func (s service) Votes(ctx context.Context, request *rpc.VotesRequest, stream *connect.ServerStream[rpc.VotesReply]) error {
	handler, err := s.handler()
	if err != nil {
		return err
	}
	if err := streamVotes(ctx, handler, request.Session, stream.Send); err != nil {
		return serverError(err)
	}
	return nil
}

// Results implements rpc.ReplicaHandler.
func (s service) Results(ctx context.Context, request *rpc.ResultsRequest) (*rpc.BatchReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	reply, err := handler.Results(ctx, request.Session, request.Batch)
	return answerBatch(&reply, err)
}

// Status implements rpc.ReplicaHandler.
func (s service) Status(ctx context.Context, _ *rpc.StatusRequest) (*rpc.StatusReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	status, err := handler.Status(ctx)
	if err != nil {
		return nil, serverError(err)
	}
	return encodeStatus(&status), nil
}

// ReadIndex implements rpc.ReplicaHandler.
func (s service) ReadIndex(ctx context.Context, _ *rpc.ReadIndexRequest) (*rpc.ReadIndexReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	index, err := handler.ReadIndex(ctx)
	if err != nil {
		return nil, serverError(err)
	}
	return &rpc.ReadIndexReply{Index: index}, nil
}

// CityLog implements rpc.ReplicaHandler.
func (s service) CityLog(ctx context.Context, request *rpc.CityLogRequest) (*rpc.CityLogReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	city, ok := dems.ParseCity(request.City)
	if !ok {
		return nil, serverError(badRequest("city %.16q", request.City))
	}
	page, err := handler.CityLog(ctx, city, request.First, int(min(request.MaxBytes, maxPageBytes)))
	if err != nil {
		return nil, serverError(err)
	}
	return &rpc.CityLogReply{First: page.First, Total: page.Total, Records: page.Records}, nil
}

// Transfer implements rpc.ReplicaHandler.
func (s service) Transfer(ctx context.Context, request *rpc.TransferRequest) (*rpc.TransferReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	if request.To != "" && !dems.ValidName(request.To) {
		return nil, serverError(badRequest("node %.64q", request.To))
	}
	if err := handler.Transfer(ctx, dems.NodeID(request.To)); err != nil {
		return nil, serverError(err)
	}
	return &rpc.TransferReply{}, nil
}

func answerBatch(reply *dems.BatchReply, err error) (*rpc.BatchReply, error) {
	if err != nil {
		return nil, serverError(err)
	}
	message, err := encodeBatchReply(reply)
	if err != nil {
		return nil, serverError(err)
	}
	return message, nil
}

// serverError gives an error the form in which it crosses the network. The detail says what is known; the code is for
// people who read traces.
func serverError(err error) error {
	detail := &rpc.ReplicaError{}
	code := connect.CodeUnknown
	if known, ok := errors.AsType[*dems.ReplicaError](err); ok {
		detail.Kind, detail.Leader = encodeErrorKind(known.Kind), string(known.Leader)
		err = known.Err
		switch known.Kind {
		case dems.NotLeader:
			code = connect.CodeFailedPrecondition
		case dems.NotApplied, dems.NotReady:
			code = connect.CodeUnavailable
		case dems.BadRequest:
			code = connect.CodeInvalidArgument
		}
	}
	if detail.Kind == rpc.ErrorKind_ERROR_KIND_UNKNOWN_OUTCOME && errors.Is(err, context.DeadlineExceeded) {
		code = connect.CodeDeadlineExceeded
	}
	var text error
	if err != nil {
		text = errors.New(err.Error()) // a plain text: connect would look into the causes
	}
	sent := connect.NewError(code, text)
	if encoded, err := connect.NewErrorDetail(detail); err == nil {
		sent.AddDetail(encoded)
	}
	return sent
}
