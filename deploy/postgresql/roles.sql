-- Run once by a superuser, before the database is made: who owns the tables, and who serves.
-- Passwords are theirs to set (\password) or, better, certificates or peer authentication in pg_hba.conf.
create role gateway_owner login;
create role gateway_serve login;
create database gateway owner gateway_owner encoding 'UTF8' template template0;
