// Package traffic is the load of a failure drill: clients whose every request can be told from every other one, and the direct
// checks of what became of their requests.
//
// It owns the events and customers of the drill. They stand in groups. What is done in one group changes no answer in another
// one, so that the history of each can be judged alone; that is what dates, types, cities and customers are chosen for (see
// calendar and pairs). Contended groups are fought over: few events with few seats, few customers, everything that can be
// asked, so that every rule refuses something all the time. Unique groups are one event each, which every customer asks for
// once: whether a request was lost, or took effect twice, or a seat was given away twice, can be counted there.
//
// It never judges whether a history is linearizable, and breaks nothing itself. It says who asks with the header Dems-User, so
// it needs a front end whose authentication is off. It needs the dates that it chooses for itself: who makes events there while
// it runs makes it find faults that are none. Run, Settle and Clear start goroutines, one for each client, and wait for them.
package traffic
