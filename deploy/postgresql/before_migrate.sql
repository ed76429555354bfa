-- Run once by a superuser in the database gateway, before the first `gateway migrate`: it holds for every month's table.
alter default privileges for role gateway_owner grant select, insert on tables to gateway_serve;
