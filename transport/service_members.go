package transport

import (
	"context"
	"time"

	"dems"
	"dems/transport/rpc"
)

// Calls about the cluster's own members, from the node's side.

// Report implements rpc.ReplicaHandler.
func (s service) Report(ctx context.Context, request *rpc.ReportRequest) (*rpc.ReportReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	report, err := decodeReport(request)
	if err != nil {
		return nil, serverError(err)
	}
	if err := handler.Report(ctx, report); err != nil {
		return nil, serverError(err)
	}
	return &rpc.ReportReply{}, nil
}

func decodeReport(request *rpc.ReportRequest) (dems.Report, error) {
	kind := dems.ReportKind(request.Kind)
	named := kind == dems.WrongAnswerReport || kind == dems.AccusationReport
	switch {
	case request.Kind > uint32(dems.NoMajorityReport) || !named && kind != dems.NoMajorityReport:
		return dems.Report{}, badRequest("unknown kind %d of report", request.Kind)
	case (named || request.Node != "") && !dems.ValidName(request.Node):
		return dems.Report{}, badRequest("node %.64q", request.Node)
	case len(request.Indexes) > dems.MaxReportIndexes:
		return dems.Report{}, badRequest("%d indexes, at most %d", len(request.Indexes), dems.MaxReportIndexes)
	case len(request.Expected) > dems.MaxEvidenceBytes || len(request.Answered) > dems.MaxEvidenceBytes:
		return dems.Report{}, badRequest("evidence has at most %d bytes", dems.MaxEvidenceBytes)
	}
	return dems.Report{
		Kind: kind, Node: dems.NodeID(request.Node), Incarnation: request.Incarnation, Strikes: int(request.Strikes),
		Indexes: request.Indexes, Expected: request.Expected, Answered: request.Answered,
	}, nil
}

// Suspect implements rpc.ReplicaHandler.
func (s service) Suspect(ctx context.Context, request *rpc.SuspectRequest) (*rpc.SuspectReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	if !dems.ValidName(request.Leader) {
		return nil, serverError(badRequest("node %.64q", request.Leader))
	}
	opinion, err := handler.Suspect(ctx, dems.Suspicion{Leader: dems.NodeID(request.Leader), Term: request.Term})
	if err != nil {
		return nil, serverError(err)
	}
	return &rpc.SuspectReply{
		Agrees: opinion.Agrees, Term: opinion.Term, LastTerm: opinion.LastTerm, LastIndex: opinion.LastIndex,
	}, nil
}

// StateAt implements rpc.ReplicaHandler.
func (s service) StateAt(ctx context.Context, request *rpc.StateAtRequest) (*rpc.StateAtReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	digest, err := handler.StateAt(ctx, request.Index)
	if err != nil {
		return nil, serverError(err)
	}
	return &rpc.StateAtReply{Digest: digest[:]}, nil
}

// Replace implements rpc.ReplicaHandler.
func (s service) Replace(ctx context.Context, request *rpc.ReplaceRequest) (*rpc.ReplaceReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	if !dems.ValidName(request.Node) {
		return nil, serverError(badRequest("node %.64q", request.Node))
	}
	if err := handler.Replace(ctx, dems.NodeID(request.Node)); err != nil {
		return nil, serverError(err)
	}
	return &rpc.ReplaceReply{}, nil
}

// Inject implements rpc.ReplicaHandler.
func (s service) Inject(ctx context.Context, request *rpc.InjectRequest) (*rpc.InjectReply, error) {
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	fault := dems.Fault{
		Kind: dems.FaultKind(min(request.Kind, 255)), Requests: int(request.Requests),
		Delay: milliseconds(request.DelayMs), Jitter: milliseconds(request.JitterMs), Lasts: milliseconds(request.LastsMs),
		Peers: request.Peers, Direction: dems.Direction(min(request.Direction, 255)),
	}
	if problem := fault.Check(); problem != "" {
		return nil, serverError(badRequest("%s", problem))
	}
	if err := handler.Inject(ctx, fault); err != nil {
		return nil, serverError(err)
	}
	return &rpc.InjectReply{}, nil
}

func milliseconds(count uint32) time.Duration { return time.Duration(count) * time.Millisecond }
