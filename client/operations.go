package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"dems"
)

// Option changes how one operation is done.
type Option func(*operation)

// WithKey does the operation under an idempotency key of an earlier one, to learn what became of that. The operation must be
// the same.
func WithKey(key string) Option {
	return func(o *operation) { o.key = key }
}

// operation is one logical operation of a user, as it is logged and sent.
type operation struct {
	op         dems.Op
	parameters parameters
	request
}

// result is a pointer to what an answer is decoded into.
type result interface{ reply() *Reply }

// AddEvent makes an event, or changes the capacity of one that exists.
func (c *Client) AddEvent(ctx context.Context, event dems.EventKey, capacity uint32, options ...Option) (*Added, error) {
	if code := checkEvents(event); code != dems.OK {
		return nil, refusal(code)
	}
	if capacity < 1 || capacity > dems.MaxCapacity {
		return nil, refusal(dems.InvalidCapacity)
	}
	o := mutation(dems.AddEvent, http.MethodPut, eventPath(event))
	o.body = fmt.Appendf(nil, `{"capacity":%d}`, capacity)
	o.parameters = parameters{EventID: event.ID.String(), EventType: event.Type.String(), Capacity: capacity}
	return perform(ctx, c, o, options, new(Added))
}

// RemoveEvent removes an event and does with its bookings what the policy says.
func (c *Client) RemoveEvent(ctx context.Context, event dems.EventKey, policy dems.BookingPolicy, options ...Option) (*Removed, error) {
	if code := checkEvents(event); code != dems.OK {
		return nil, refusal(code)
	}
	o := mutation(dems.RemoveEvent, http.MethodDelete, eventPath(event)+"?bookings="+url.QueryEscape(policy.String()))
	o.parameters = parameters{EventID: event.ID.String(), EventType: event.Type.String(), Bookings: policy.String()}
	return perform(ctx, c, o, options, new(Removed))
}

// GetEvent returns one event.
func (c *Client) GetEvent(ctx context.Context, event dems.EventKey) (*Single, error) {
	if code := checkEvents(event); code != dems.OK {
		return nil, refusal(code)
	}
	o := reading(dems.GetEvent, eventPath(event))
	o.parameters = parameters{EventID: event.ID.String(), EventType: event.Type.String()}
	return perform(ctx, c, o, nil, new(Single))
}

// ListEventAvailability returns the events of a type in all cities.
func (c *Client) ListEventAvailability(ctx context.Context, eventType dems.EventType) (*Availability, error) {
	if eventType.String() == "" {
		return nil, refusal(dems.InvalidEventType)
	}
	o := reading(dems.ListEventAvailability, "/v1/events/"+eventType.String())
	o.parameters = parameters{EventType: eventType.String()}
	return perform(ctx, c, o, nil, new(Availability))
}

// BookEvent books an event for a customer.
func (c *Client) BookEvent(ctx context.Context, customer dems.UserID, event dems.EventKey, options ...Option) (*Booked, error) {
	if code := checkCustomer(customer, event); code != dems.OK {
		return nil, refusal(code)
	}
	o := mutation(dems.BookEvent, http.MethodPost, customerPath(customer)+"bookings")
	o.body = fmt.Appendf(nil, `{"eventType":"%s","eventID":"%s"}`, event.Type, event.ID)
	o.parameters = parameters{CustomerID: customer.String(), EventID: event.ID.String(), EventType: event.Type.String()}
	return perform(ctx, c, o, options, new(Booked))
}

// GetBookingSchedule returns a customer's bookings in all cities.
func (c *Client) GetBookingSchedule(ctx context.Context, customer dems.UserID) (*Schedule, error) {
	if code := checkCustomer(customer); code != dems.OK {
		return nil, refusal(code)
	}
	o := reading(dems.GetBookingSchedule, customerPath(customer)+"bookings")
	o.parameters = parameters{CustomerID: customer.String()}
	return perform(ctx, c, o, nil, new(Schedule))
}

// CancelEvent cancels a customer's booking. Without a type it is the one booking with that event ID.
func (c *Client) CancelEvent(ctx context.Context, customer dems.UserID, event dems.EventKey, options ...Option) (*Booked, error) {
	typed := event
	if event.Type == 0 {
		typed.Type = dems.Conference
	}
	if code := checkCustomer(customer, typed); code != dems.OK {
		return nil, refusal(code)
	}
	path := customerPath(customer) + "bookings/" + event.ID.String()
	if event.Type != 0 {
		path += "?eventType=" + event.Type.String()
	}
	o := mutation(dems.CancelEvent, http.MethodDelete, path)
	o.parameters = parameters{CustomerID: customer.String(), EventID: event.ID.String(), EventType: event.Type.String()}
	return perform(ctx, c, o, options, new(Booked))
}

// SwapEvent gives up a booking for another in one step, or changes nothing.
func (c *Client) SwapEvent(ctx context.Context, customer dems.UserID, newEvent, oldEvent dems.EventKey, options ...Option) (*Swapped, error) {
	if code := checkCustomer(customer, newEvent, oldEvent); code != dems.OK {
		return nil, refusal(code)
	}
	o := mutation(dems.SwapEvent, http.MethodPost, customerPath(customer)+"swaps")
	o.body = fmt.Appendf(nil, `{"newEventID":"%s","newEventType":"%s","oldEventID":"%s","oldEventType":"%s"}`,
		newEvent.ID, newEvent.Type, oldEvent.ID, oldEvent.Type)
	o.parameters = parameters{
		CustomerID: customer.String(),
		NewEventID: newEvent.ID.String(), NewEventType: newEvent.Type.String(),
		OldEventID: oldEvent.ID.String(), OldEventType: oldEvent.Type.String(),
	}
	return perform(ctx, c, o, options, new(Swapped))
}

// perform records an operation in the user log, asks for it, decodes the answer into target and records that.
func perform[T result](ctx context.Context, c *Client, o operation, options []Option, target T) (T, error) {
	var none T
	for _, option := range options {
		option(&o)
	}
	if o.mutates && !dems.ValidKey(o.key) {
		return none, refusal(dems.InvalidIdempotencyKey)
	}
	if c.user == (dems.UserID{}) && (c.config.Token == "" || c.config.UserLog != nil) {
		return none, refusal(dems.Unauthenticated)
	}
	id := o.key
	if id == "" {
		id = NewKey()
	}
	entry, err := c.config.UserLog.begin(c.user, o.op, id, o.parameters)
	if err != nil {
		return none, err
	}
	err = c.fetch(ctx, &o.request, target)
	failed, _ := errors.AsType[*Error](err)
	if logError := entry.end(*target.reply(), failed); logError != nil {
		// The operation is done: that its record is missing must not make it look as if it were not.
		c.config.Logger.LogAttrs(ctx, slog.LevelWarn, logError.Error())
	}
	if err != nil {
		return none, err
	}
	return target, nil
}

// fetch asks for something and decodes the answer into target. The error is an *Error.
func (c *Client) fetch(ctx context.Context, r *request, target result) error {
	answer, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	reply := newReply(r, answer)
	if len(answer.body) > 0 {
		err = json.Unmarshal(answer.body, target)
	}
	*target.reply() = reply
	if err != nil {
		return &Error{
			Code:     dems.Internal,
			Status:   http.StatusOK,
			Detail:   "The operation was done, but its answer cannot be read; use a client of the front end's version.",
			Sequence: reply.Sequence,
			Key:      r.key,
			Endpoint: answer.endpoint,
			Err:      err,
		}
	}
	return nil
}

// mutation and reading return an operation that is complete but for its body and the parameters to log.
func mutation(op dems.Op, method, path string) operation {
	return operation{op: op, request: request{method: method, path: path, accept: jsonType, mutates: true, key: NewKey()}}
}

func reading(op dems.Op, path string) operation {
	return operation{op: op, request: request{method: http.MethodGet, path: path, accept: jsonType}}
}

func eventPath(event dems.EventKey) string {
	return "/v1/events/" + event.Type.String() + "/" + event.ID.String()
}

func customerPath(customer dems.UserID) string { return "/v1/customers/" + customer.String() + "/" }

// checkCustomer and checkEvents return the code of the first identifier that is not well-formed, so that none makes an
// address of something else. Which cities there are, the front end knows.
func checkCustomer(customer dems.UserID, events ...dems.EventKey) dems.Code {
	if !validUser(customer) || !customer.IsCustomer() {
		return dems.InvalidUserID
	}
	return checkEvents(events...)
}

func checkEvents(events ...dems.EventKey) dems.Code {
	for _, event := range events {
		if _, ok := dems.ParseEventID(event.ID.String()); !ok {
			return dems.InvalidEventID
		}
	}
	for _, event := range events {
		if event.Type.String() == "" {
			return dems.InvalidEventType
		}
	}
	return dems.OK
}

func validUser(user dems.UserID) bool {
	_, ok := dems.ParseUserID(user.String())
	return ok && user.Number <= 9999
}
