package transport

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"dems"
	"dems/transport/rpc"

	"connectrpc.com/connect"
)

// Backup implements rpc.ReplicaHandler.
func (s service) Backup(ctx context.Context, request *rpc.BackupRequest, stream *connect.ServerStream[rpc.BackupReply]) error {
	handler, err := s.handler()
	if err != nil {
		return err
	}
	controller, _ := ctx.Value(writerKey{}).(*http.ResponseController)
	begun := false
	err = handler.Backup(ctx, request.MinIndex, func(part dems.BackupPart) error {
		message := &rpc.BackupReply{Data: part.Data}
		if !begun {
			begun = true
			message.Index, message.Digest = part.Origin.Index, part.Origin.Digest[:]
		}
		if len(part.Data) > maxPartBytes {
			return fmt.Errorf("a piece of %d bytes is too large to send", len(part.Data))
		}
		if controller != nil {
			controller.SetWriteDeadline(time.Now().Add(s.endpoint.config.PartTimeout))
		}
		return stream.Send(message)
	})
	if err != nil {
		return serverError(err)
	}
	return nil
}

// Backup implements Handler. It has no timeout of its own: a node that dies is noticed by Config.IdleTimeout. That it returns
// nil says that the node has sent all that it wanted to send.
func (r *Replica) Backup(ctx context.Context, minIndex uint64, send func(dems.BackupPart) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, call := withCall(ctx)
	stream, err := r.client.Backup(ctx, &rpc.BackupRequest{MinIndex: minIndex})
	if err != nil {
		return clientError(call, err)
	}
	defer stream.Close()
	begun := false
	for ; stream.Receive(); begun = true {
		part, err := decodePart(stream.Msg(), begun)
		if err != nil {
			return err
		}
		if err := send(part); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return clientError(call, err)
	}
	if !begun {
		return malformedReply("nothing of a backup")
	}
	return nil
}

// decodePart reads a piece of a backup: the first one, or one of the others.
func decodePart(message *rpc.BackupReply, begun bool) (dems.BackupPart, error) {
	part := dems.BackupPart{Origin: dems.Origin{Index: message.Index}, Data: message.Data}
	first := len(message.Digest) == len(part.Origin.Digest) && message.Index > 0 && len(message.Data) == 0
	other := len(message.Digest) == 0 && message.Index == 0 && len(message.Data) > 0 && len(message.Data) <= maxPartBytes
	if begun && !other || !begun && !first {
		return dems.BackupPart{}, malformedReply("a piece of a backup that is not in its place")
	}
	copy(part.Origin.Digest[:], message.Digest)
	return part, nil
}
