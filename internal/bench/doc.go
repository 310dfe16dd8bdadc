// Package bench copies images with our tool and with others, side by side, and
// counts what each of them asks of the registries.
//
// # How it works
//
//  1. Peers are built from their modules at fixed versions (peers.go, peers/),
//     as commands and as libraries; a library runs in a process that copies
//     when it is told to, so that nobody's start-up is measured there.
//  2. Each of two registries stands behind a Front, which waits before it lets
//     a request pass, counts requests, bytes and connections, and misbehaves
//     where a case says so.
//  3. A Case says what lies where before a copy, and what must lie there
//     after it. Preparing and checking go past the fronts and are not measured.
//  4. A case's tools take turns: A B C, B C A, and so on, after one round that
//     does not count. A destination is never used twice.
//  5. Report writes what came out as a table for people and as JSON.
package bench
