// Package notify tells webhooks of records that are durable in the ledger. It
// is told of a record and returns at once; sending goes on beside the work and
// ends, at the latest, a bounded time after it. What cannot be delivered is
// kept in a file, and a later run sends it again. Nothing here is ever a reason
// to fail or hold up a promotion: what goes wrong is a warning.
//
// A message is a CloudEvent 1.0.2 in JSON, structured content mode
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md),
// whose data is a CDEvent 0.5.1 (https://github.com/cdevents/spec/tree/v0.5.1),
// a custom one where that vocabulary has no word. Where a secret is configured
// it is signed as Standard Webhooks says
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
package notify
