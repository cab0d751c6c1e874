//! NestJS over NATS, both ways, by the real `@nestjs/microservices`.

mod clients;
mod services;
