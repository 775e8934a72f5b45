/** Mounts the modules' queries on gRPC and HTTP. */
import fp from 'fastify-plugin'
import type { Module } from '@bifold/cqrs'
import { grpcOf } from '@bifold/grpc'
import { mongoOf } from '@bifold/mongo'
import { makeAnswers } from './answer.ts'
import { serviceDefinition, unary } from './grpc.ts'
import { route } from './http.ts'

export interface QueriesOptions { modules: readonly Module[] }

export default fp<QueriesOptions>(async (app, { modules }) => {
  for (const module of modules) {
    const answers = makeAnswers(mongoOf(app), module)
    grpcOf(app).server.addService(serviceDefinition(module.service), unary(answers, app.log))
    for (const [name, answer] of Object.entries(answers)) app.route(route(name, module, answer))
  }
}, { name: 'queries', dependencies: ['grpc', 'mongo', 'openapi'] })
