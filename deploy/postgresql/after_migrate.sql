-- Run by a superuser in the database gateway after each `gateway migrate`: what a serving process may change, and no more.
grant usage on schema public to gateway_serve;
revoke insert on facts, alembic_version, journal_months from gateway_serve;
grant update, delete on keys, quotas, assertions, suspensions to gateway_serve;
grant update, delete on documents, lanes, gates, deliveries, steps, attachments, uses, subscriptions to gateway_serve;
grant execute on function journal_month(text) to gateway_serve;
